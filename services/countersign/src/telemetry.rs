//! Logs and metrics of the process.

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Telemetry};
use crate::failure::{Doing as _, Failure};

/// Starts both; what the metrics are rendered from comes back.
pub(crate) fn start(telemetry: &Telemetry) -> Result<PrometheusHandle, Failure> {
    logs(telemetry)?;
    PrometheusBuilder::new().install_recorder().doing("the metrics recorder cannot be installed")
}

/// Logs go to stderr: stdout belongs to what scripts read.
pub(crate) fn logs(telemetry: &Telemetry) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&telemetry.log)
        .map_err(|error| Failure::new(format!("telemetry.log is not a filter: {}", telemetry.log)).because(error))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match telemetry.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.doing("logging cannot be started")
}
