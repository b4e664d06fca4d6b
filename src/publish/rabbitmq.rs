use std::sync::Arc;
pub struct Publisher;
impl Publisher { pub fn new(_: &crate::config::RabbitmqTarget, _: crate::config::Tls, _: Arc<dyn Fn() -> Result<String, String> + Send + Sync>) -> Self { Publisher } }
impl super::Publisher for Publisher { fn publish(&self, _: super::Outgoing) -> std::pin::Pin<Box<dyn Future<Output = Result<(), super::PublishError>> + Send + '_>> { Box::pin(async { Ok(()) }) } }
