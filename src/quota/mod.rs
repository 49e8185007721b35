//! Quota: what an upstream account may be asked, counted before it is asked. Pure; time is passed in.
//! It knows no provider, no socket and no clock. The heart is the ledger; what an upstream says comes in as
//! [`Statement`]s and [`Refusal`]s that `upstream/` has read.

mod admission;
mod again;
mod borrow;
pub mod breaker;
mod clock;
mod course;
mod estimate;
mod evidence;
mod learn;
mod ledger;
mod lift;
pub mod limit;
mod log;
mod look;
mod merge;
mod minute;
mod reconfigure;
mod refusal;
mod rows;
pub mod said;
mod shared;
mod standing;
mod watch;
mod window;

pub use admission::{Actual, Cause, Charge, Denial, Mode, Need, Short};
pub use breaker::{Breaker, BreakerView, Gate};
pub use estimate::Estimator;
pub use learn::Change;
pub use ledger::Ledger;
pub use limit::{Glob, Limit, Period, Scope, Source, Unit, Window};
pub use rows::{BlockView, LimitView};
pub use said::{Refusal, RefusalClass, Statement};

/// A point in time: milliseconds since the Unix epoch. Wall-clock time, since windows of upstreams follow it and
/// counts outlive the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Moment(pub i64);
