//! Health: what a report is made of ([`sources`], [`report`]), in the forms that collectors want ([`encode`]: a new dialect
//! goes there), how it waits on disk ([`queue`]), and where it goes ([`sinks`]). The model is [`protocol::health`].

pub(crate) mod encode;
pub(crate) mod enrolment;
pub(crate) mod identity;
pub(crate) mod queue;
pub(crate) mod report;
pub(crate) mod sinks;
pub(crate) mod sources;
