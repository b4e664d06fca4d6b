//! Checks the contract on the fake, so that tests with the fake say something about brokers.

use longhaul::delivery::Identity;
use longhaul::event::{Message, Origin, RabbitmqOrigin};
use longhaul::source::memory;

use super::{Harness, contract};

struct Memory(memory::Handle);

contract!([Memory(memory::Handle::default())]);

impl Harness for Memory {
    type Source = memory::Source;
    const REDELIVERED_FLAG: bool = true;
    const RETURNED_COMES_AGAIN: bool = true;

    async fn produce(&self, bodies: &[String]) {
        for (number, body) in bodies.iter().enumerate() {
            let message = Message {
                body: body.clone().into(),
                headers: Vec::new(),
                origin: Origin::Rabbitmq(RabbitmqOrigin::default()),
            };
            self.0.push_as(Identity::numbered(number as u128), message);
        }
    }

    fn source(&self, max_in_flight: u16) -> memory::Source {
        self.0.source(max_in_flight.into())
    }

    async fn acked(&self, count: u64) {
        assert_eq!(self.0.counts().acked as u64, count);
    }

    async fn cut(&self) {
        self.0.cut();
    }

    async fn left(&self) -> u64 {
        let counts = self.0.counts();
        (counts.ready + counts.unacked) as u64
    }

    async fn clean_up(self) {}
}
