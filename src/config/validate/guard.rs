//! Checks the settings of the guard.

use super::Context;
use crate::config::path::Path;
use crate::config::types::Guard;
use crate::config::units::Span;

impl Context<'_> {
    pub(super) fn guard(&mut self, guard: &Guard, path: &Path) {
        if !self.features.guard {
            let help = "use the released binary, or build with `--features guard`";
            self.report.mistake(path, "this program was built without the guard", help);
        }
        if let Some(after) = guard.after {
            self.range(&path.key("after"), after, Span::from_secs(0), Span::from_hours(1));
        }
    }
}
