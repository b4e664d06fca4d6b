//! One item from its start to its answer.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::sync::{Mutex, oneshot, watch};
use tokio::time::Instant;

use super::event::Event;
use super::folder::Folder;
use super::live::{self, Data, EndLine};
use super::outcome::{Body, Ending, Outcome};
use super::output::{Present, Said};
use super::pod_log::PodLog;
use super::process::{self, Input, Process, Program};
use super::progress::{self, Progress, Target};
use super::tree::{self, Usage};
use super::{InputKind, OnGone, Phase, Settings};

const REPLY_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// How often limits are checked.
const CHECK: Duration = Duration::from_millis(500);
/// How often ended orphans are reaped if no limit has to be checked.
const REAP: Duration = Duration::from_secs(5);

/// Runs items, one at a time.
#[derive(Debug)]
pub struct Runner {
    pub settings: Arc<Settings>,
    pub program: Program,
    pub folder: Folder,
    pub log: PodLog,
    pub phase: watch::Receiver<Phase>,
    present: Present,
    /// The process of `--serve`, between two items.
    live: Mutex<Option<Process>>,
}

/// How the wait for a command ended.
enum End {
    Exited(ExitStatus),
    Answered(EndLine),
    Cut(Outcome, String),
}

/// Completes when the client has gone: the client's connection owns and drops the sender.
pub type Gone = oneshot::Receiver<()>;

impl Runner {
    pub fn new(
        settings: Arc<Settings>,
        program: Program,
        folder: Folder,
        log: PodLog,
        phase: watch::Receiver<Phase>,
    ) -> Self {
        Runner { settings, program, folder, log, phase, present: Present::default(), live: Mutex::default() }
    }

    /// Runs the item whose data is in the folder's file.
    pub async fn run(&self, event: &mut Event, gone: Gone) -> Ending {
        let started = Instant::now();
        self.log
            .note(&format!(
                "Item started id={:?} attempt={}",
                event.id(),
                event.get("attempt").unwrap_or("?")
            ))
            .await;
        let target = self.target(event).await;
        if let Some(target) = &target {
            self.complete_checkpoint(event, target).await;
        }
        let progress =
            target.map(|target| Progress::start(target, self.settings.pod.clone(), self.log.clone()));
        self.present.set(Said::new(event.id(), progress.as_ref().map(|(progress, _)| progress.clone())));
        let ending =
            if self.settings.serve { self.ask(event, gone).await } else { self.start(event, gone).await };
        let mut ending = ending.unwrap_or_else(|error| Ending::new(Outcome::Failed, error));
        if let Err(error) = self.folder.empty() {
            self.log
                .note(&format!("The working directory cannot be emptied error={:?}", error.to_string()))
                .await;
        }
        let mut said = self.present.take();
        if self.settings.serve || self.settings.reply.is_some() {
            said.reply = None;
        }
        complete(&mut ending, said);
        if let Some((progress, task)) = progress {
            progress.finish(task).await;
        }
        self.log
            .note(&format!(
                "Item ended id={:?} outcome={} seconds={:.1} reason={:?}",
                event.id(),
                ending.outcome.name(),
                started.elapsed().as_secs_f64(),
                ending.reason
            ))
            .await;
        ending
    }

    /// Runs the item in a process of its own.
    async fn start(&self, event: &Event, gone: Gone) -> Result<Ending, String> {
        let data = self.folder.data();
        let input = match self.settings.input {
            InputKind::Stdin => Input::File(File::open(&data).map_err(|error| format!("the data: {error}"))?),
            InputKind::File | InputKind::None => Input::Nothing,
        };
        let work = self.folder.work();
        let mut variables: Vec<(String, &OsStr)> =
            event.variables().map(|(name, value)| (name, OsStr::new(value))).collect();
        variables.push(("CE_WORK_DIR".to_owned(), work.as_os_str()));
        variables.push(("TMPDIR".to_owned(), work.as_os_str()));
        if self.settings.input == InputKind::File {
            variables.push(("CE_DATA_FILE".to_owned(), data.as_os_str()));
        }
        let mut process = self
            .program
            .start(self.start_folder(&work), variables.into_iter(), input, &self.present, &self.log)
            .map_err(|error| format!("the command cannot be started: {error}"))?;
        let end = self.watch(&mut process, gone, &mut None, Usage::default()).await;
        process.finish().await;
        Ok(match end {
            End::Exited(status) => {
                let (outcome, reason) = self.settings.exit_codes.outcome(status);
                if outcome == Outcome::Done { self.reply(&work)? } else { Ending::new(outcome, reason) }
            }
            End::Answered(answer) => answer.ending(),
            End::Cut(outcome, reason) => Ending::new(outcome, reason),
        })
    }

    /// Passes the item to the process of `--serve` as a line.
    async fn ask(&self, event: &Event, gone: Gone) -> Result<Ending, String> {
        let data = self.folder.data();
        let line = match self.settings.input {
            InputKind::None => live::line(event, Data::None, &self.folder.work()),
            InputKind::File => live::line(event, Data::File(&data), &self.folder.work()),
            InputKind::Stdin => {
                let bytes = fs::read(&data).map_err(|error| format!("the data: {error}"))?;
                live::line(event, Data::Bytes(&bytes), &self.folder.work())
            }
        }?;
        let mut process = self.take_live().await.map_err(|error| format!("the command: {error}"))?;
        let (sender, answer) = oneshot::channel();
        let mut answer = Some(answer);
        self.present.lock().answer = Some(sender);
        // The pipe is written while the process is watched: a process that does not read can still
        // be stopped.
        let stdin = process.stdin.take();
        let write = tokio::spawn(async move {
            let mut stdin = stdin?;
            stdin.write_all(&line).await.ok()?;
            Some(stdin)
        });
        let before = if self.has_limits() { tree::usage(&tree::below_self(None)) } else { Usage::default() };
        let mut end = self.watch(&mut process, gone, &mut answer, before).await;
        let stdin = if matches!(end, End::Answered(_)) {
            // The answer came before the end of the input, so the rest of the input is not needed.
            tokio::time::timeout(Duration::from_secs(1), write)
                .await
                .ok()
                .and_then(|done| done.ok().flatten())
        } else {
            write.abort();
            None
        };
        if stdin.is_some() && !process.has_ended() {
            process.stdin = stdin;
            process::sweep(Some(process.pid())).await;
            *self.live.lock().await = Some(process);
        } else {
            process.finish().await;
        }
        // The process may have ended right after its answer.
        if let (End::Exited(_), Some(Ok(last))) = (&end, answer.map(|mut answer| answer.try_recv())) {
            end = End::Answered(last);
        }
        Ok(match end {
            End::Exited(status) => {
                let (_, reason) = self.settings.exit_codes.outcome(status);
                let reason = if reason.is_empty() { "exit code 0".to_owned() } else { reason };
                Ending::new(Outcome::Failed, format!("the process ended without an answer: {reason}"))
            }
            End::Answered(answer) => answer.ending(),
            End::Cut(outcome, reason) => Ending::new(outcome, reason),
        })
    }

    /// Starts the process of `--serve` before the first item, so that it can load its model.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn warm_up(&self) -> io::Result<()> {
        let process = self.take_live().await?;
        *self.live.lock().await = Some(process);
        Ok(())
    }

    /// Ends the process of `--serve`.
    pub async fn end_live(&self) {
        if let Some(mut process) = self.live.lock().await.take() {
            process.stdin = None;
            process.stop(self.settings.stop_timeout).await;
            process.finish().await;
        }
    }

    async fn take_live(&self) -> io::Result<Process> {
        if let Some(mut process) = self.live.lock().await.take() {
            if !process.has_ended() {
                return Ok(process);
            }
            self.log.note("The process has ended between two items and is started again").await;
            process.finish().await;
        }
        let work = self.folder.work();
        let variables =
            [("CE_WORK_DIR".to_owned(), work.as_os_str()), ("TMPDIR".to_owned(), work.as_os_str())];
        let folder = self.start_folder(&work);
        self.program.start(folder, variables.into_iter(), Input::Pipe, &self.present, &self.log)
    }

    fn start_folder<'a>(&self, work: &'a Path) -> &'a Path {
        if self.settings.keeps_folder { Path::new(".") } else { work }
    }

    fn has_limits(&self) -> bool {
        self.settings.memory.is_some() || self.settings.cpu_time.is_some()
    }

    /// Waits for the command, and stops it if something else ends the item.
    async fn watch(
        &self,
        process: &mut Process,
        mut gone: Gone,
        answer: &mut Option<oneshot::Receiver<EndLine>>,
        before: Usage,
    ) -> End {
        let settings = &self.settings;
        let mut phase = self.phase.clone();
        let deadline = settings.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut check = tokio::time::interval(if self.has_limits() { CHECK } else { REAP });
        let (outcome, reason) = loop {
            tokio::select! {
                biased;
                Some(Ok(answer)) = wait_for(answer) => return End::Answered(answer),
                status = process.wait() => match status {
                    Ok(status) => return End::Exited(status),
                    Err(error) => break (Outcome::Failed, format!("the command cannot be awaited: {error}")),
                },
                _ = phase.wait_for(|phase| *phase == Phase::Interrupt) => {
                    break (Outcome::Interrupted, "the worker is stopping".to_owned());
                }
                _ = &mut gone, if settings.on_gone == OnGone::Stop => {
                    break (Outcome::Interrupted, "the client has gone".to_owned());
                }
                () = until(deadline) => {
                    break (Outcome::Failed, format!("not finished within {:?} (--timeout)", settings.timeout.unwrap_or_default()));
                }
                _ = check.tick() => {
                    let entries = tree::below_self(None);
                    process::reap(&entries, process.pid());
                    if let Some(reason) = self.exceeded(&entries, before) {
                        break (Outcome::Failed, reason);
                    }
                }
            }
        };
        process.stop(settings.stop_timeout).await;
        End::Cut(outcome, reason)
    }

    fn exceeded(&self, entries: &[tree::Entry], before: Usage) -> Option<String> {
        if !self.has_limits() {
            return None;
        }
        let now = tree::usage(entries);
        let cpu = now.cpu.saturating_sub(before.cpu);
        if let Some(limit) = self.settings.memory.filter(|limit| now.memory > *limit) {
            return Some(format!("{} bytes of memory, and {limit} are allowed (--memory)", now.memory));
        }
        let limit = self.settings.cpu_time.filter(|limit| cpu > *limit)?;
        Some(format!("{cpu:?} of CPU time, and {limit:?} are allowed (--cpu-time)"))
    }

    /// Returns the end of a command that has succeeded, with the reply of `--reply`.
    fn reply(&self, work: &Path) -> Result<Ending, String> {
        let mut ending = Ending::new(Outcome::Done, "");
        let Some(name) = &self.settings.reply else { return Ok(ending) };
        let shown = name.display();
        let file = match File::open(work.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ending),
            Err(error) => return Err(format!("the reply {shown}: {error}")),
        };
        let mut bytes = Vec::new();
        file.take(REPLY_FILE_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| format!("{shown}: {error}"))?;
        if bytes.len() as u64 > REPLY_FILE_BYTES {
            return Err(format!("the reply {shown} has more than {REPLY_FILE_BYTES} bytes"));
        }
        serde_json::from_slice::<serde::de::IgnoredAny>(&bytes)
            .map_err(|error| format!("the reply {shown} is not JSON: {error}"))?;
        ending.body = Body::Json(bytes);
        Ok(ending)
    }

    /// The address for posts.
    async fn target(&self, event: &Event) -> Option<Target> {
        let url = event.get("progressurl").filter(|_| self.settings.posts_progress)?;
        match Target::parse(url) {
            Ok(target) => Some(target),
            Err(error) => {
                self.log.note(&format!("Progress is not posted url={url:?} error={error:?}")).await;
                None
            }
        }
    }

    /// Gives the event the checkpoint that is too long for it.
    async fn complete_checkpoint(&self, event: &mut Event, target: &Target) {
        if event.get("checkpoint").is_some() {
            return;
        }
        match progress::fetch_checkpoint(target).await {
            Ok(Some(text)) => event.set("checkpoint", text),
            Ok(None) => {}
            Err(error) => self.log.note(&format!("The checkpoint is not known error={error:?}")).await,
        }
    }
}

/// Adds the words of the command to its ending.
fn complete(ending: &mut Ending, mut said: Said) {
    if ending.outcome == Outcome::Done {
        if let Some(reply) = said.reply.take().filter(|_| ending.body == Body::Empty) {
            ending.body = Body::Json(reply);
        }
        return;
    }
    let words = said.last_words();
    if !words.is_empty() {
        ending.reason = format!("{}: {words}", ending.reason);
    }
    if ending.body == Body::Empty && !said.tail.is_empty() {
        ending.body = Body::Text(std::mem::take(&mut said.tail));
    }
    ending.checkpoint = said.checkpoint;
}

async fn wait_for<T>(
    receiver: &mut Option<oneshot::Receiver<T>>,
) -> Option<Result<T, oneshot::error::RecvError>> {
    match receiver {
        Some(waiting) => {
            let received = waiting.await;
            *receiver = None;
            Some(received)
        }
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
