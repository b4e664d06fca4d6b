//! Replicas, requests and backlog over time, as SVG: one panel for each scenario.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::curve::Point;
use super::forecast::Forecast;
use super::words::human;

const WIDTH: u32 = 1000;
const LEGEND_HEIGHT: u32 = 34;
const PANEL_HEIGHT: u32 = 300;
/// Colours that colour-blind people can tell apart (Okabe and Ito).
const PAID: RGBColor = RGBColor(86, 180, 233);
const PAID_OPACITY: f64 = 0.35;
const READY: RGBColor = RGBColor(0, 114, 178);
const IN_FLIGHT: RGBColor = RGBColor(213, 94, 0);
const BACKLOG: RGBColor = RGBColor(110, 110, 110);

/// The error of the drawing library.
#[derive(Debug, thiserror::Error)]
#[error("the drawing failed: {0}")]
pub struct Error(String);

type Drawn<T> = Result<T, Box<dyn std::error::Error>>;

/// Draws the typical run of each forecast. All panels share one time scale, so they can be
/// compared.
///
/// # Errors
/// The drawing library refused something.
pub fn svg(forecasts: &[&Forecast]) -> Result<String, Error> {
    let mut text = String::new();
    draw(forecasts, &mut text).map_err(|error| Error(error.to_string()))?;
    Ok(text)
}

fn draw(forecasts: &[&Forecast], text: &mut String) -> Drawn<()> {
    let height = LEGEND_HEIGHT + PANEL_HEIGHT * forecasts.len().max(1) as u32;
    let root = SVGBackend::with_string(text, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let end = forecasts.iter().filter_map(|forecast| points(forecast).last()).map(|last| last.at).max();
    let end = end.unwrap_or_default().as_secs_f64().max(1.0);
    let (legend, panels) = root.split_vertically(LEGEND_HEIGHT);
    draw_legend(&legend)?;
    for (forecast, panel) in forecasts.iter().zip(panels.split_evenly((forecasts.len().max(1), 1))) {
        draw_panel(forecast, &panel, end)?;
    }
    root.present()?;
    Ok(())
}

fn draw_panel(forecast: &Forecast, panel: &DrawingArea<SVGBackend<'_>, Shift>, end: f64) -> Drawn<()> {
    let points = points(forecast);
    let highest = |value: fn(&Point) -> f64| points.iter().map(value).fold(1.0, f64::max) * 1.08;
    let replicas = highest(|point| f64::from(point.replicas()).max(point.in_flight as f64));
    let backlog = highest(|point| point.backlog as f64);
    let (unit, scale) = unit(end);
    let mut chart = ChartBuilder::on(panel)
        .caption(caption(forecast), ("sans-serif", 17))
        .margin(12)
        .x_label_area_size(38)
        .y_label_area_size(52)
        .right_y_label_area_size(60)
        .build_cartesian_2d(0.0..end / scale, 0.0..replicas)?
        .set_secondary_coord(0.0..end / scale, 0.0..backlog);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .x_desc(format!("time ({unit})"))
        .y_desc("replicas, requests")
        .y_label_formatter(&|value| format!("{value:.0}"))
        .draw()?;
    chart
        .configure_secondary_axes()
        .y_desc("items in the queue")
        .y_label_formatter(&|value| format!("{value:.0}"))
        .draw()?;

    let steps = |value: fn(&Point) -> f64| steps(points, scale, end, value);
    chart.draw_series(AreaSeries::new(
        steps(|point| f64::from(point.replicas())),
        0.0,
        PAID.mix(PAID_OPACITY),
    ))?;
    chart.draw_secondary_series(LineSeries::new(steps(|point| point.backlog as f64), BACKLOG))?;
    chart.draw_series(LineSeries::new(steps(|point| f64::from(point.ready)), READY.stroke_width(2)))?;
    chart.draw_series(LineSeries::new(steps(|point| point.in_flight as f64), IN_FLIGHT.stroke_width(2)))?;
    Ok(())
}

/// One line for all panels, above them: within a panel it would cover the curves.
fn draw_legend(area: &DrawingArea<SVGBackend<'_>, Shift>) -> Drawn<()> {
    let entries = [
        ("replicas paid for", PAID.mix(PAID_OPACITY)),
        ("replicas ready", READY.mix(1.0)),
        ("requests held open", IN_FLIGHT.mix(1.0)),
        ("items in the queue (right)", BACKLOG.mix(1.0)),
    ];
    for (column, (label, colour)) in (0..).zip(entries) {
        let left = 64 + column * 215;
        area.draw(&Rectangle::new([(left, 14), (left + 18, 24)], colour.filled()))?;
        area.draw(&Text::new(label, (left + 26, 13), ("sans-serif", 13)))?;
    }
    Ok(())
}

fn caption(forecast: &Forecast) -> String {
    let run = forecast.typical();
    let drained =
        run.drained.map_or("never drains".to_owned(), |drained| format!("drained after {}", human(drained)));
    format!("{}: {} items, {drained}", forecast.scenario.name, run.items)
}

/// Turns points into steps: a value lasts until the next point, so each point makes a corner.
fn steps(points: &[Point], scale: f64, end: f64, value: fn(&Point) -> f64) -> Vec<(f64, f64)> {
    let mut corners = Vec::with_capacity(points.len() * 2 + 1);
    for point in points {
        let at = point.at.as_secs_f64() / scale;
        if let Some((_, before)) = corners.last().copied() {
            corners.push((at, before));
        }
        corners.push((at, value(point)));
    }
    if let Some((_, last)) = corners.last().copied() {
        corners.push((end / scale, last));
    }
    corners
}

/// Returns the unit of the time axis and its length in seconds.
fn unit(end: f64) -> (&'static str, f64) {
    match end {
        ..600.0 => ("s", 1.0),
        ..36_000.0 => ("min", 60.0),
        ..864_000.0 => ("h", 3600.0),
        _ => ("d", 86_400.0),
    }
}

fn points(forecast: &Forecast) -> &[Point] {
    forecast.typical().curve.points()
}
