//! A call as it went, and what it means for its delivery and its destination.

use event::destination::Refusal;

/// Why a call brought no usable answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The allowlist no longer names the destination, or one of its addresses may not be dialled.
    DestinationDenied,
    /// More than a response may have, announced or sent.
    ResponseTooLarge,
    /// The tenant is not known here (yet).
    NoSettings,
    /// The tenant has no webhook secret, and nothing is sent unsigned.
    NoSecret,
    ResolveFailed,
    ConnectFailed,
    ConnectTimeout,
    /// The certificate is not valid for the host name, or nobody we trust vouches for it.
    CertificateRefused,
    TlsFailed,
    ReadTimeout,
    /// The connection ended before the answer did.
    ConnectionClosed,
    /// Not HTTP.
    BadResponse,
    /// A defect of ours ended the call.
    Panicked,
}

impl CallError {
    /// The stable code in `Attempt::error`.
    pub fn code(self) -> &'static str {
        match self {
            Self::DestinationDenied => "destination_denied",
            Self::ResponseTooLarge => "response_too_large",
            Self::NoSettings => "no_settings",
            Self::NoSecret => "no_webhook_secret",
            Self::ResolveFailed => "resolve_failed",
            Self::ConnectFailed => "connect_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::CertificateRefused => "certificate_refused",
            Self::TlsFailed => "tls_failed",
            Self::ReadTimeout => "read_timeout",
            Self::ConnectionClosed => "connection_closed",
            Self::BadResponse => "bad_response",
            Self::Panicked => "panicked",
        }
    }

    /// Whether another attempt could not come out otherwise.
    fn is_final(self) -> bool {
        matches!(self, Self::DestinationDenied | Self::ResponseTooLarge)
    }
}

impl From<Refusal> for CallError {
    fn from(refusal: Refusal) -> Self {
        // A name without an address may have one again; every other refusal is a decision.
        if refusal == Refusal::Unresolved { Self::ResolveFailed } else { Self::DestinationDenied }
    }
}

/// One call as it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub at_ms: i64,
    pub duration_ms: i64,
    pub status: Option<u16>,
    pub address: Option<String>,
    pub response_bytes: u64,
    pub error: Option<CallError>,
    /// The header, as it was sent.
    pub retry_after: Option<String>,
}

impl Call {
    /// A call that was not made.
    pub fn refused(at_ms: i64, error: CallError) -> Self {
        Self {
            at_ms,
            duration_ms: 0,
            status: None,
            address: None,
            response_bytes: 0,
            error: Some(error),
            retry_after: None,
        }
    }

    /// What the call means for its delivery.
    pub fn result(&self) -> CallResult {
        match (self.error, self.status) {
            (Some(error), _) if error.is_final() => CallResult::Failed,
            (Some(_), _) | (None, None | Some(408 | 425 | 429 | 500..=599)) => CallResult::Again,
            (None, Some(200..=299)) => CallResult::Delivered,
            (None, Some(_)) => CallResult::Failed,
        }
    }

    /// What the call says about its destination, for the breaker: `None` where nobody was asked.
    pub fn is_healthy(&self) -> Option<bool> {
        match self.error {
            Some(CallError::DestinationDenied | CallError::NoSettings | CallError::NoSecret | CallError::Panicked) => {
                None
            }
            Some(CallError::ResponseTooLarge) => Some(true),
            _ => Some(self.result() != CallResult::Again),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallResult {
    Delivered,
    Failed,
    Again,
}

impl CallResult {
    pub fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Again => "again",
        }
    }
}
