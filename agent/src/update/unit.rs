//! Updates in a unit of their own: the agent's unit has no right to install an app, so it leaves a request and starts the unit
//! that has it.
//!
//! In: what to do, in a file of the agent's private folder. Out: what came of it, in another. [`check`] and [`recover`] are
//! called by the agent, [`perform`] by the process of the unit. A request has a number; a result with another one is that of
//! an earlier agent, which ended while the unit worked.

use platform::file::Access;
use platform::paths::Paths;
use platform::state::StateFile;
use platform::{random, service};
use policy_schema::Problem;
use serde::{Deserialize, Serialize};

use super::Job;
use super::outcome::{Outcome, UnitError};
use crate::state::private_folder;

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    number: u64,
    task: Task,
}

#[derive(Debug, Serialize, Deserialize)]
enum Task {
    Check(Box<Job>),
    Recover { app: String },
}

#[derive(Debug, Serialize, Deserialize)]
struct Response {
    number: u64,
    result: TaskResult,
}

#[derive(Debug, Serialize, Deserialize)]
enum TaskResult {
    Checked(Outcome),
    Recovered(Option<Problem>),
}

/// Has the unit check the feed and do what policy allows.
pub(super) async fn check(paths: &Paths, unit: &str, job: Job) -> Result<Outcome, UnitError> {
    match run(paths, unit, Task::Check(Box::new(job))).await? {
        TaskResult::Checked(outcome) => Ok(outcome),
        TaskResult::Recovered(_) => Err(UnitError::Result { unit: unit.to_owned(), source: None }),
    }
}

/// Has the unit finish a switch that a crash interrupted.
pub(super) async fn recover(paths: &Paths, unit: &str, app: &str) -> Result<Option<Problem>, UnitError> {
    match run(paths, unit, Task::Recover { app: app.to_owned() }).await? {
        TaskResult::Recovered(problem) => Ok(problem),
        TaskResult::Checked(_) => Err(UnitError::Result { unit: unit.to_owned(), source: None }),
    }
}

async fn run(paths: &Paths, unit: &str, task: Task) -> Result<TaskResult, UnitError> {
    let request = Request { number: u64::from_le_bytes(random::bytes()), task };
    let file = request_file(paths);
    file.save(&request).map_err(|source| UnitError::Request {
        unit: unit.to_owned(),
        path: file.path().to_owned(),
        source,
    })?;
    // A start joins a run that is under way, which may have begun with the request of an earlier agent.
    for _ in 0..2 {
        service::run_unit(unit).await.map_err(|source| UnitError::Run { unit: unit.to_owned(), source })?;
        let response = response_file(paths)
            .load()
            .map_err(|error| UnitError::Result { unit: unit.to_owned(), source: Some(error) })?;
        if let Some(response) = response.filter(|response| response.number == request.number) {
            return Ok(response.result);
        }
    }
    Err(UnitError::Result { unit: unit.to_owned(), source: None })
}

/// Does what the agent requested.
///
/// # Errors
/// There is no request, or the result cannot be written.
pub(crate) async fn perform(paths: &Paths) -> anyhow::Result<()> {
    let Some(Request { number, task }) = request_file(paths).load()? else {
        anyhow::bail!("nothing is requested: the agent starts this process when an update is due");
    };
    let result = match task {
        Task::Check(job) => TaskResult::Checked(super::check(paths, &job).await),
        Task::Recover { app } => TaskResult::Recovered(super::finish(paths, &app).await),
    };
    Ok(response_file(paths).save(&Response { number, result })?)
}

fn request_file(paths: &Paths) -> StateFile<Request> {
    StateFile::new(private_folder(paths).join("update-request.json"), Access::Private)
}

fn response_file(paths: &Paths) -> StateFile<Response> {
    StateFile::new(private_folder(paths).join("update-result.json"), Access::Private)
}
