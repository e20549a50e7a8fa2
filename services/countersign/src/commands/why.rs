//! `why <exchange_id>`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use event::id::ExchangeId;
use stage::Stop;

use crate::admin::why::{FRESH_WAIT, WhyAnswer, why};
use crate::admin::{Reach, Trouble, model, print};
use crate::cli::Place;
use crate::client::block_on;
use crate::config::Profile;
use crate::failure::Failure;
use crate::substrate::Substrate;

/// With nothing running, the read model is brought up to date first: a long log takes its time.
const CATCH_UP_MAX: Duration = Duration::from_secs(3_600);

#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    #[arg(value_name = "EXCHANGE_ID")]
    exchange_id: String,
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// Exit code 1 where no record names the exchange.
pub(crate) fn run(args: &WhyArgs) -> Result<ExitCode, Failure> {
    // Read here too: what is no id must not become another path of the address.
    if ExchangeId::parse(args.exchange_id.as_str()).is_err() {
        return Err(Failure::new(format!("`{}` is no exchange id: it must be {}", args.exchange_id, ExchangeId::RULE))
            .try_this("the answer to a request names it, and so does its Location header"));
    }
    let answer = match Reach::find(&args.place)? {
        Reach::Beside(admin) => admin.get(&format!("why/{}", args.exchange_id), &[])?,
        Reach::Here(here) => block_on(ask(&here, &args.exchange_id))??,
    };
    if args.json {
        print::json(&answer)?
    } else {
        print::out(&answer.told())?
    }
    Ok(if answer.found.is_some() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

async fn ask(here: &Substrate, exchange_id: &str) -> Result<WhyAnswer, Trouble> {
    crate::admin::books::require_topics(here.log.as_ref())?;
    let view = model::open(here).await?;
    // In a cluster the read model has a process of its own; here there is none that would fill it.
    let answer = if here.config.profile == Profile::Local {
        let stop = Stop::new();
        let (log, followed, until) = (Arc::clone(&here.log), view.clone(), stop.clone());
        let follower = std::thread::spawn(move || view::follow(log.as_ref(), &followed, &until));
        let answer = why(Arc::clone(&here.log), &view, exchange_id, CATCH_UP_MAX).await;
        stop.request();
        match follower.join() {
            Ok(Err(error)) => Err(model::trouble(&error)),
            Ok(Ok(())) => answer,
            Err(_) => Err(Trouble::new("the read model could not be filled: its thread panicked")),
        }
    } else {
        why(Arc::clone(&here.log), &view, exchange_id, FRESH_WAIT).await
    };
    view.close().await;
    answer
}
