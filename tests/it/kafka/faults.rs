//! Errors of the broker that the mock cluster injects.

use std::time::Duration;

use longhaul::source::SourceEvent;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::support::{Broker, offsets, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_commit_is_made_again() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let broker = Broker { bootstrap: cluster.bootstrap_servers(), name: "refused".to_owned() };
    broker.produce("t", 0, (0..10).map(|number| format!("{number}"))).await;
    let mut source = broker.start(&["t"]);
    let taken = source.take(10).await;
    cluster.request_errors(
        RDKafkaApiKey::OffsetCommit,
        &[
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN,
        ],
    );
    taken.iter().for_each(|delivery| source.ack(delivery.outline.id));
    until("it is committed", || broker.committed("t").0 == 10).await;
    source.close().await;
}

/// Starting without the map would run again whatever is done behind the base.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_waits_for_its_map() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let broker = Broker { bootstrap: cluster.bootstrap_servers(), name: "map".to_owned() };
    broker.produce("t", 0, (0..10).map(|number| format!("{number}"))).await;
    let mut source = broker.start(&["t"]);
    let taken = source.take(10).await;
    taken.iter().filter(|one| one.outline.id.tag != 0).for_each(|one| source.ack(one.outline.id));
    source.close().await;

    let refusals = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN; 3];
    cluster.request_errors(RDKafkaApiKey::OffsetFetch, &refusals);
    let mut again = broker.start(&["t"]);
    again.wait_for(|event| *event == SourceEvent::Connected(true)).await;
    assert_eq!(offsets(&again.take(1).await), [0]);
    assert!(again.anything_within(Duration::from_millis(500)).await.is_empty());
    again.close().await;
}
