use std::sync::Arc;
pub struct Settings;
impl Settings { pub fn new(_: &str, _: &crate::config::RabbitmqSource, _: u32, _: Arc<dyn Fn() -> Result<String, String> + Send + Sync>) -> Self { Settings } }
pub struct Source;
impl Source { pub fn new(_: Settings) -> Self { Source } }
impl super::Source for Source { async fn run(self, _: super::Link) -> Result<(), super::SourceError> { Ok(()) } }
