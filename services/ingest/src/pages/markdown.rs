//! As much Markdown as the runbook uses: headings, paragraphs, lists, fenced code, `code`. Everything else is text.

/// Renders our own pages; markup in them comes out as text.
pub(crate) fn to_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut open = "";
    let mut is_code = false;
    for line in text.lines() {
        if line.starts_with("```") {
            out.push_str(close(&mut open));
            out.push_str(if is_code { "</code></pre>" } else { "<pre><code>" });
            is_code = !is_code;
            continue;
        }
        if is_code {
            escape(line, &mut out);
            out.push('\n');
            continue;
        }
        let hashes = line.bytes().take_while(|byte| *byte == b'#').count();
        if (1..=3).contains(&hashes) {
            out.push_str(close(&mut open));
            out.push_str(&format!("<h{hashes}>"));
            inline(line.trim_start_matches('#').trim(), &mut out);
            out.push_str(&format!("</h{hashes}>"));
        } else if let Some(item) = line.strip_prefix("- ") {
            switch(&mut open, "ul", &mut out);
            out.push_str("<li>");
            inline(item, &mut out);
        } else if line.trim().is_empty() {
            out.push_str(close(&mut open));
        } else {
            if open.is_empty() {
                switch(&mut open, "p", &mut out);
            } else {
                out.push(' ');
            }
            inline(line.trim(), &mut out);
        }
    }
    out.push_str(close(&mut open));
    out
}

fn switch(open: &mut &'static str, to: &'static str, out: &mut String) {
    if *open != to {
        out.push_str(close(open));
        out.push_str(if to == "ul" { "<ul>" } else { "<p>" });
        *open = to;
    }
}

fn close(open: &mut &'static str) -> &'static str {
    match std::mem::take(open) {
        "ul" => "</ul>",
        "p" => "</p>",
        _ => "",
    }
}

/// Text between odd and even backticks is code.
fn inline(text: &str, out: &mut String) {
    for (index, part) in text.split('`').enumerate() {
        if index > 0 {
            out.push_str(if index % 2 == 1 { "<code>" } else { "</code>" });
        }
        escape(part, out);
    }
    if text.matches('`').count() % 2 == 1 {
        out.push_str("</code>");
    }
}

fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_render() {
        let text = "# A `b`\n\nOne\ntwo <x>.\n\n- first\n- `second`\n\n```\n<code> & more\n```\nend";
        let html = "<h1>A <code>b</code></h1><p>One two &lt;x&gt;.</p><ul><li>first<li><code>second</code></ul>\
                    <pre><code>&lt;code&gt; &amp; more\n</code></pre><p>end</p>";
        assert_eq!(to_html(text), html);
    }
}
