//! What a query may say, and the pages of a list.

use access::Problem;
use axum::extract::Query;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use event::id::ExchangeId;
use event::time::Timestamp;

use crate::cursor;

const LIMIT_DEFAULT: i64 = 50;
const LIMIT_MAX: i64 = 500;

/// The query, strictly: a misspelt filter must not be ignored.
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(super) fn read(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else {
            return Err(Problem::invalid_parameter("The query cannot be read."));
        };
        for (index, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let detail = format!("`{name}` is not a parameter here; there are {}.", known.join(", "));
                return Err(Problem::invalid_parameter(detail));
            }
            if pairs.iter().skip(index + 1).any(|(other, _)| other == name) {
                return Err(Problem::invalid_parameter(format!("`{name}` is given twice.")));
            }
        }
        Ok(Self(pairs))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn parsed<T>(
        &self,
        name: &str,
        rule: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        match self.text(name) {
            None => Ok(None),
            Some(text) => match parse(text) {
                Some(value) => Ok(Some(value)),
                None => Err(Problem::invalid_parameter(format!("`{name}` must be {rule}."))),
            },
        }
    }

    pub(super) fn time(&self, name: &str) -> Result<Option<i64>, Problem> {
        self.parsed(name, "a time like 2026-11-21T10:00:00.000Z", |text| {
            let whole = text.strip_suffix('Z').filter(|rest| rest.len() == 19).map(|rest| format!("{rest}.000Z"));
            Timestamp::parse(whole.as_deref().unwrap_or(text)).ok().map(Timestamp::as_millis)
        })
    }

    pub(super) fn limit(&self) -> Result<i64, Problem> {
        let rule = format!("a number from 1 to {LIMIT_MAX}");
        let limit = self.parsed("limit", &rule, |text| text.parse().ok().filter(|n| (1..=LIMIT_MAX).contains(n)))?;
        Ok(limit.unwrap_or(LIMIT_DEFAULT))
    }

    pub(super) fn exchange_id(&self) -> Result<Option<String>, Problem> {
        self.parsed("exchange_id", ExchangeId::RULE, |text| ExchangeId::parse(text).ok().map(|id| id.to_string()))
    }

    pub(super) fn cursor<const N: usize>(&self) -> Result<Option<[String; N]>, Problem> {
        self.parsed("cursor", "one that an earlier page gave", cursor::read::<N>)
    }
}

/// The body with `Link: rel="next"` where there is more.
pub(super) fn paged(uri: &Uri, body: impl IntoResponse, next: Option<String>) -> Response {
    let mut response = body.into_response();
    let Some(next) = next else { return response };
    let kept: Vec<&str> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="))
        .collect();
    let mut query = kept.join("&");
    if !query.is_empty() {
        query.push('&');
    }
    let link = format!("<{}?{query}cursor={next}>; rel=\"next\"", uri.path());
    if let Ok(value) = HeaderValue::from_str(&link) {
        response.headers_mut().insert(header::LINK, value);
    }
    response
}
