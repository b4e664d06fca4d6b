//! `longhaul top`: pipelines and items in the terminal, live.
//!
//! One thread draws and reads keys. A second one asks the bridge, so that a slow answer never holds
//! a key up. They exchange [`Ask`] and [`Told`].

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use super::client::{Client, Server};
use super::exit;

mod asker;
mod draw;
mod keys;
mod model;
#[cfg(test)]
mod tests;

use asker::{Ask, Told};
use model::Model;

/// The pause between two readings of the state.
const REFRESH: Duration = Duration::from_secs(1);

/// The longest wait for a key before the next drawing.
const FRAME: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Begin with this pipeline.
    pipeline: Option<String>,
    #[command(flatten)]
    server: Server,
}

/// Shows the bridge until `q`.
///
/// # Errors
/// If the terminal cannot be used.
pub fn run(options: &Options, err: &mut dyn Write) -> io::Result<u8> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        exit::say(err, &"top needs a terminal", "use `longhaul ps --items`, with --json for programs")?;
        return Ok(exit::USAGE);
    }
    let client = match Client::new(&options.server) {
        Ok(client) => client,
        Err(failure) => return failure.say(err),
    };
    // A wrong address or token is an error on the command line, not an empty screen.
    if let Err(failure) = client.pipelines() {
        return failure.say(err);
    }
    let mut model = Model::new(client.address(), options.pipeline.clone());
    let (ask, asked) = channel();
    let (tell, told) = channel();
    thread::Builder::new().name("asker".to_owned()).spawn(move || asker::serve(&client, &asked, &tell))?;
    // It restores the terminal after a panic too.
    let mut terminal = ratatui::try_init()?;
    let ended = watch(&mut terminal, &mut model, &ask, &told);
    ratatui::restore();
    ended.map(|()| exit::OK)
}

fn watch(
    terminal: &mut ratatui::DefaultTerminal,
    model: &mut Model,
    ask: &Sender<Ask>,
    told: &Receiver<Told>,
) -> io::Result<()> {
    let mut refreshed: Option<Instant> = None;
    while !model.is_over {
        while let Ok(news) = told.try_recv() {
            model.learn(news);
        }
        let is_due = refreshed.is_none_or(|at| at.elapsed() >= REFRESH);
        if (is_due && !model.is_waiting) || model.is_stale {
            refreshed = Some(Instant::now());
            model.is_waiting = true;
            model.is_stale = false;
            model.requests.push(model.refresh());
        }
        for request in model.requests.drain(..) {
            if ask.send(request).is_err() {
                return Err(io::Error::other("the part that asks the bridge has ended"));
            }
        }
        terminal.draw(|frame| draw::screen(frame, model, Timestamp::now()))?;
        if !event::poll(FRAME)? {
            continue;
        }
        match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => keys::press(model, key),
            _ => {}
        }
    }
    Ok(())
}
