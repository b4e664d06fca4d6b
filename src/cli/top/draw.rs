//! The screen.

use jiff::Timestamp;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Sparkline, Table, TableState, Wrap};

use super::keys::HELP;
use super::model::{Mode, Model, PAGE, SELECTIONS};
use crate::cli::items::list::facts;
use crate::cli::ps::{figures, troubles};
use crate::cli::table::{age, answer, attempt, next, number, shown};
use crate::view::{Item, ItemState, PipelineState, Sample};

/// Lines of the list of pipelines and of the problems, at most.
const PIPELINES: usize = 5;
const TROUBLES: usize = 6;
/// The height of a sparkline.
const SPARK: u16 = 2;

pub fn screen(frame: &mut Frame, model: &Model, now: Timestamp) {
    let troubles: Vec<String> = model.chosen.iter().flat_map(|pipeline| troubles(pipeline, now)).collect();
    let shown_troubles = troubles.len().min(TROUBLES);
    let small = frame.area().height < 20;
    let heights = [
        1,
        model.pipelines.len().clamp(1, PIPELINES) as u16,
        shown_troubles as u16,
        2,
        if small { 0 } else { SPARK + 1 },
    ];
    let mut rows: Vec<Constraint> = heights.into_iter().map(Constraint::Length).collect();
    rows.extend([Constraint::Min(3), Constraint::Length(1)]);
    let areas: [Rect; 7] = Layout::vertical(rows).areas(frame.area());
    let [head, list, problems, facts, sparks, items, foot] = areas;
    header(frame, model, head);
    pipelines(frame, model, list);
    let lines: Vec<Line> = troubles.iter().take(shown_troubles).map(|line| trouble(line)).collect();
    frame.render_widget(Paragraph::new(lines), problems);
    if let Some(pipeline) = &model.chosen {
        let figures = Paragraph::new(figures(pipeline).join(", ")).wrap(Wrap { trim: true });
        frame.render_widget(figures, facts);
        if sparks.height > 0 {
            sparklines(frame, &pipeline.history, sparks);
        }
    }
    table(frame, model, items, now);
    footer(frame, model, foot);
    match &model.mode {
        Mode::Details => {
            if let Some((item, log)) = &model.details {
                details(frame, item, log, now);
            }
        }
        Mode::Help => help(frame),
        Mode::Confirm { question, .. } => confirm(frame, question),
        Mode::Items | Mode::Filter | Mode::Limit(_) => {}
    }
}

fn header(frame: &mut Frame, model: &Model, area: Rect) {
    let state = match &model.lost {
        Some(reason) => format!("connection lost: {} (the state is old) ", shown(reason)).red().bold(),
        None if model.pipelines.is_empty() => "".into(),
        None => "live ".green(),
    };
    let title = Line::from(vec![" longhaul ".bold().reversed(), format!(" {}", model.address).into()]);
    frame.render_widget(Paragraph::new(title), area);
    frame.render_widget(Paragraph::new(Line::from(state).right_aligned()), area);
}

fn pipelines(frame: &mut Frame, model: &Model, area: Rect) {
    let at = model.pipelines.iter().position(|pipeline| Some(&pipeline.name) == model.name.as_ref());
    // The chosen one stays in sight.
    let first = at.unwrap_or_default().saturating_sub(usize::from(area.height).saturating_sub(1));
    let name_width = model.pipelines.iter().map(|pipeline| pipeline.name.chars().count()).max();
    let lines: Vec<Line> = model
        .pipelines
        .iter()
        .skip(first)
        .map(|pipeline| {
            let is_chosen = Some(&pipeline.name) == model.name.as_ref();
            let name = format!("{:<width$}", pipeline.name, width = name_width.unwrap_or_default());
            Line::from(vec![
                if is_chosen { "> ".bold() } else { "  ".into() },
                if is_chosen { name.bold() } else { name.into() },
                Span::styled(format!("  {:<8}  ", word(pipeline.state)), color(pipeline.state)),
                shown(&pipeline.sentence).into(),
            ])
        })
        .collect();
    let lines = if lines.is_empty() { vec![Line::from("Reading the pipelines…")] } else { lines };
    frame.render_widget(Paragraph::new(lines), area);
}

fn word(state: PipelineState) -> &'static str {
    match state {
        PipelineState::Running => "running",
        PipelineState::Paused => "paused",
        PipelineState::Draining => "draining",
        PipelineState::Drained => "drained",
        PipelineState::Stuck => "STUCK",
    }
}

fn color(state: PipelineState) -> Style {
    match state {
        PipelineState::Running => Style::new().green(),
        PipelineState::Paused | PipelineState::Draining | PipelineState::Drained => Style::new().yellow(),
        PipelineState::Stuck => Style::new().red().bold(),
    }
}

fn trouble(line: &str) -> Line<'_> {
    if line.starts_with('!') { Line::from(line).red() } else { Line::from(line) }
}

/// Backlog, requests and throughput of the last hour.
fn sparklines(frame: &mut Frame, history: &[Sample], area: Rect) {
    let areas: [Rect; 3] = Layout::horizontal([Constraint::Fill(1); 3]).spacing(2).areas(area);
    let done: Vec<u64> = history.windows(2).map(|pair| pair[1].done.saturating_sub(pair[0].done)).collect();
    let parts: [(&str, Vec<u64>); 3] = [
        ("backlog", history.iter().map(|sample| sample.backlog).collect()),
        ("in flight", history.iter().map(|sample| u64::from(sample.running)).collect()),
        ("done", done),
    ];
    for ((title, values), area) in parts.into_iter().zip(areas) {
        let now = values.last().copied().map(number).unwrap_or_default();
        let [label, chart] = Layout::vertical([Constraint::Length(1), Constraint::Length(SPARK)]).areas(area);
        frame.render_widget(Line::from(format!("{title}, last hour: {now}")).dim(), label);
        let squeezed = squeeze(&values, usize::from(chart.width));
        frame.render_widget(Sparkline::default().data(&squeezed).style(Style::new().cyan()), chart);
    }
}

/// The highest value of each of `width` equal parts.
fn squeeze(values: &[u64], width: usize) -> Vec<u64> {
    if values.len() <= width || width == 0 {
        return values.to_vec();
    }
    (0..width)
        .map(|part| {
            let range = part * values.len() / width..(part + 1) * values.len() / width;
            values[range].iter().copied().max().unwrap_or_default()
        })
        .collect()
}

fn table(frame: &mut Frame, model: &Model, area: Rect, now: Timestamp) {
    let first = model.trail.len() * PAGE;
    let range = match model.items.len() {
        0 => "none".to_owned(),
        count => format!("{} to {} of {}", first + 1, first + count, number(model.total as u64)),
    };
    let typing = if model.mode == Mode::Filter { "_" } else { "" };
    let key = match (model.key.as_str(), typing) {
        ("", "") => String::new(),
        (key, typing) => format!(", id {}{typing}", shown(key)),
    };
    let title = format!(" Items: {} ({range}{key}) ", SELECTIONS[model.selection].0);
    let rows = model.items.iter().map(|item| {
        Row::new([
            Cell::from(shown(&item.id)),
            Cell::from(item.state.as_str()).style(state_color(item.state)),
            Cell::from(attempt(item)),
            Cell::from(age(&item.since, now)),
            Cell::from(next(item, now)),
            Cell::from(answer(item)),
        ])
    });
    let widths = [
        Constraint::Fill(3),
        Constraint::Length(13),
        Constraint::Length(8),
        Constraint::Length(10),
        Constraint::Fill(2),
        Constraint::Fill(3),
    ];
    let head = Row::new(["ID", "STATE", "ATTEMPT", "FOR", "NEXT", "LAST ANSWER"]).bold();
    let highlight = if model.on_all { Style::new() } else { Style::new().add_modifier(Modifier::REVERSED) };
    let table = Table::new(rows, widths)
        .header(head)
        .row_highlight_style(highlight)
        .block(Block::bordered().title(title));
    let mut state = TableState::new().with_selected(Some(model.row).filter(|_| !model.items.is_empty()));
    frame.render_stateful_widget(table, area, &mut state);
}

fn state_color(state: ItemState) -> Style {
    match state {
        ItemState::Held | ItemState::DeadLettered => Style::new().fg(Color::Red),
        ItemState::Retrying | ItemState::Dropped => Style::new().fg(Color::Yellow),
        ItemState::Running | ItemState::Writing => Style::new().fg(Color::Cyan),
        ItemState::Done => Style::new().fg(Color::Green),
        ItemState::Waiting | ItemState::Asking | ItemState::Blocked => Style::new(),
    }
}

fn footer(frame: &mut Frame, model: &Model, area: Rect) {
    let line = match (&model.mode, &model.message) {
        (Mode::Filter, _) => Line::from("Type a part of the id; Enter keeps it, Esc removes it"),
        (Mode::Limit(text), _) => {
            Line::from(format!("Open requests at most: {text}_  (Enter sets it, Esc leaves)"))
        }
        (_, Some(message)) => Line::from(shown(message)).bold(),
        (_, None) if model.on_all => Line::from(format!(
            "All {} that match: r R h c d x act, a back to one item",
            number(model.total as u64)
        ))
        .bold(),
        (_, None) => {
            Line::from("q quit  ? keys  Enter details  s state  / id  a all  r retry  R release  h c d x")
                .dim()
        }
    };
    frame.render_widget(Paragraph::new(line), area);
}

/// A box in the middle of the screen.
fn popup(frame: &mut Frame, width: u16, height: u16, title: String) -> Rect {
    let all = frame.area();
    let (width, height) = (width.min(all.width), height.min(all.height));
    let area = Rect::new((all.width - width) / 2, (all.height - height) / 2, width, height);
    let block = Block::bordered().title(title);
    let inner = block.inner(area);
    frame.render_widget(Clear, area);
    frame.render_widget(block, area);
    inner
}

fn details(frame: &mut Frame, item: &Item, log: &[String], now: Timestamp) {
    let area = frame.area();
    let inner = popup(frame, area.width, area.height.saturating_sub(2), format!(" {} ", shown(&item.id)));
    let mut lines: Vec<Line> = facts(item, now)
        .into_iter()
        .skip(1)
        .map(|(name, value)| Line::from(vec![format!("{name:<9} ").dim(), shown(&value).into()]))
        .collect();
    if let Some(last) = &item.last {
        lines.extend(
            last.headers
                .iter()
                .map(|(name, value)| Line::from(format!("          {}: {}", shown(name), shown(value)))),
        );
        lines.extend(last.text.lines().take(6).map(|line| Line::from(format!("          {}", shown(line)))));
    }
    lines.push(Line::from("log").dim());
    let room = usize::from(inner.height).saturating_sub(lines.len() + 1);
    let from = log.len().saturating_sub(room);
    lines.extend(log[from..].iter().map(|line| Line::from(format!("  {}", shown(line)))));
    if log.is_empty() {
        lines.push(Line::from("  The worker has reported no lines"));
    }
    lines.truncate(usize::from(inner.height).saturating_sub(1));
    frame.render_widget(Paragraph::new(lines), inner);
    let foot = Rect { y: inner.bottom().saturating_sub(1), height: 1.min(inner.height), ..inner };
    frame.render_widget(
        Line::from("Esc back  r retry  R release  h hold  c cancel  d dead-letter  x drop").dim(),
        foot,
    );
}

fn help(frame: &mut Frame) {
    let inner = popup(frame, 66, HELP.len() as u16 + 2, " Keys ".to_owned());
    let lines: Vec<Line> = HELP
        .iter()
        .map(|(keys, effect)| Line::from(vec![format!("{keys:<18}").bold(), (*effect).into()]))
        .collect();
    frame.render_widget(Paragraph::new(lines), inner);
}

fn confirm(frame: &mut Frame, question: &str) {
    let inner = popup(frame, 64, 5, " Sure? ".to_owned());
    let lines =
        vec![Line::from(shown(question)).bold(), Line::from(""), Line::from("y yes, any other key no")];
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: true }), inner);
}
