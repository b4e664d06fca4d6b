//! Writes batches that nobody can decode. A real broker refuses them, so the mock cluster gets
//! them, in Kafka's own protocol.

use std::time::Duration;

use longhaul::source::SourceEvent;
use longhaul::telemetry::ProblemKind;
use rdkafka::mocking::MockCluster;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{Broker, offsets, until};

const ZSTD: i16 = 4;
const UNKNOWN_CODEC: i16 = 7;

/// A batch of three records whose content is noise under this codec.
fn batch(codec: i16) -> Vec<u8> {
    let mut after_length = Vec::new();
    after_length.extend(0_i32.to_be_bytes()); // leader epoch
    after_length.push(2); // magic
    after_length.extend(0_u32.to_be_bytes()); // checksum, which no consumer looks at
    after_length.extend(codec.to_be_bytes());
    after_length.extend(2_i32.to_be_bytes()); // last offset delta
    after_length.extend([0; 16]); // timestamps
    after_length.extend([0xff; 14]); // no producer id, epoch and sequence
    after_length.extend(3_i32.to_be_bytes());
    after_length.extend([0xa5; 64]);
    let mut batch = 0_i64.to_be_bytes().to_vec();
    batch.extend((after_length.len() as i32).to_be_bytes());
    batch.extend(after_length);
    batch
}

/// Writes a batch to partition 0 of `t`.
async fn produce(bootstrap: &str, batch: &[u8]) {
    let mut request = Vec::new();
    request.extend([0, 0, 0, 3]); // Produce, version 3
    request.extend(1_i32.to_be_bytes());
    request.extend([0, 1, b'x']); // client id
    request.extend((-1_i16).to_be_bytes()); // no transaction
    request.extend((-1_i16).to_be_bytes()); // acks
    request.extend(5000_i32.to_be_bytes());
    request.extend(1_i32.to_be_bytes());
    request.extend([0, 1, b't']);
    request.extend(1_i32.to_be_bytes());
    request.extend(0_i32.to_be_bytes());
    request.extend((batch.len() as i32).to_be_bytes());
    request.extend(batch);
    let address = bootstrap.split(',').next().unwrap().trim_start_matches("PLAINTEXT://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&(request.len() as i32).to_be_bytes()).await.unwrap();
    stream.write_all(&request).await.unwrap();
    let mut answer = vec![0; stream.read_i32().await.unwrap() as usize];
    stream.read_exact(&mut answer).await.unwrap();
    // The answer has the correlation id, topic `t`, partition 0 and its error.
    assert_eq!(answer[19..21], [0, 0], "{answer:?}");
}

/// The partition waits, visibly, and nothing of it is skipped; the other partition continues.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_cannot_be_decoded_holds_its_partition_only() {
    for codec in [ZSTD, UNKNOWN_CODEC] {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("t", 2, 1).unwrap();
        let broker = Broker { bootstrap: cluster.bootstrap_servers(), name: format!("undecodable-{codec}") };
        broker.produce("t", 0, (0..3).map(|number| format!("{number}"))).await;
        produce(&broker.bootstrap, &batch(codec)).await;
        broker.produce("t", 0, ["behind".to_owned()]).await;
        let mut source = broker.start(&["t"]);
        let taken = source.take(3).await;
        assert_eq!(offsets(&taken), [0, 1, 2]);
        let event = source
            .wait_for(|event| matches!(event, SourceEvent::Problem(problem) if problem.kind == ProblemKind::Undecodable))
            .await;
        assert!(
            matches!(event, SourceEvent::Problem(problem) if problem.subject == "t/0/3"),
            "codec {codec}"
        );
        taken.iter().for_each(|delivery| source.ack(delivery.outline.id));

        broker.produce("t", 1, ["other".to_owned()]).await;
        assert_eq!(source.take(1).await[0].message.body, "other");
        until("the records before it are committed", || broker.committed("t").0 == 3).await;
        // This is longer than the pause before another try.
        assert!(source.anything_within(Duration::from_secs(7)).await.is_empty());
        assert_eq!(broker.committed("t").0, 3, "nothing is skipped");
        source.close().await;
    }
}
