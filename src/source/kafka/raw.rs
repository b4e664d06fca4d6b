//! What rdkafka 0.39 does not wrap, or wraps in a way that panics: the one file with `unsafe`.
//!
//! - `Consumer::commit` tells nobody how an asynchronous commit ended; a commit with a queue does.
//! - Reading metadata or header names panics when they are not UTF-8, and both are other people's bytes.
//! - The end of a log, and who is in the group, can only be asked for by calls that block; the admin
//!   requests do not.

use std::ffi::{CStr, CString};
use std::ptr::{self, NonNull};
use std::slice;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as rd;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::BorrowedMessage;

/// One partition of a list, with its bytes as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub topic: String,
    pub partition: i32,
    /// Negative where there is none.
    pub offset: i64,
    pub metadata: Vec<u8>,
    pub error: Option<RDKafkaErrorCode>,
}

/// A queue of librdkafka's events. It must be dropped before its client is.
pub struct Queue(NonNull<rd::rd_kafka_queue_t>);

/// An end of a log.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    Start,
    End,
}

/// A question for the starts or ends of logs that does not block.
pub struct LogOffsets(Question);

/// A question for the size of a group that does not block.
pub struct GroupMembers(Question);

/// An admin request whose answer is looked for, and not waited for. One at a time.
struct Question {
    queue: Queue,
    pending: bool,
}

/// The entries of a list.
pub fn entries(list: &TopicPartitionList) -> Vec<Entry> {
    if list.count() == 0 {
        return Vec::new();
    }
    // SAFETY: a list holds `cnt` elements, and lives as long as the borrow.
    let elements = unsafe { slice::from_raw_parts((*list.ptr()).elems, list.count()) };
    // SAFETY: these are elements of a live list.
    elements.iter().map(|element| unsafe { entry(element) }).collect()
}

/// Commits without blocking; the result comes to `ConsumerContext::commit_callback` through `queue`.
///
/// # Errors
/// When the request could not even be queued.
pub fn commit<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    offsets: &TopicPartitionList,
    queue: &Queue,
) -> Result<(), RDKafkaErrorCode> {
    // SAFETY: all three are alive, and librdkafka copies the list.
    let code = unsafe {
        rd::rd_kafka_commit_queue(
            consumer.client().native_ptr(),
            offsets.ptr(),
            queue.0.as_ptr(),
            None,
            ptr::null_mut(),
        )
    };
    failure(code).map_or(Ok(()), Err)
}

/// The first offset of a partition's log and the one after its last, as far as librdkafka has seen them;
/// asks nobody.
pub fn cached_bounds<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: i32,
) -> Option<(i64, i64)> {
    let topic = CString::new(topic).ok()?;
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the client is alive; the call reads the name and writes the two numbers.
    let code = unsafe {
        let client = consumer.client().native_ptr();
        rd::rd_kafka_get_watermark_offsets(client, topic.as_ptr(), partition, &mut low, &mut high)
    };
    failure(code).is_none().then_some((low, high))
}

/// Calls `each` with every header. A name that is not UTF-8 comes with replacement characters.
pub fn for_each_header(message: &BorrowedMessage<'_>, mut each: impl FnMut(String, Option<&[u8]>)) {
    let mut headers = ptr::null_mut();
    // SAFETY: the message is alive, and owns the headers it hands out.
    let found = unsafe { rd::rd_kafka_message_headers(message.ptr(), &mut headers) };
    if failure(found).is_some() {
        return;
    }
    for index in 0.. {
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
        // SAFETY: `headers` lives as long as the message; an index past the end is answered by an error.
        unsafe {
            let code = rd::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut size);
            if failure(code).is_some() {
                return;
            }
            let value = (!value.is_null()).then(|| slice::from_raw_parts(value.cast::<u8>(), size));
            each(CStr::from_ptr(name).to_string_lossy().into_owned(), value);
        }
    }
}

impl Queue {
    /// The queue that `BaseConsumer::poll` serves.
    pub fn of_consumer<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<Queue> {
        // SAFETY: the client is alive; the call returns a new reference, or null without a group.
        NonNull::new(unsafe { rd::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) }).map(Queue)
    }

    /// Whether nothing waits to be polled. `poll` itself can't tell: it also returns nothing after it
    /// served an event.
    pub fn is_empty(&self) -> bool {
        // SAFETY: the queue is alive.
        unsafe { rd::rd_kafka_queue_length(self.0.as_ptr()) == 0 }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: this reference is ours, and is given back once.
        unsafe { rd::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

impl Question {
    fn new<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<Self> {
        // SAFETY: the client is alive; the call returns a queue of our own.
        let queue = unsafe { rd::rd_kafka_queue_new(consumer.client().native_ptr()) };
        NonNull::new(queue).map(|queue| Question { queue: Queue(queue), pending: false })
    }

    /// Puts the question. `request` gets the options and the queue for the answer; librdkafka copies the
    /// options before it returns.
    ///
    /// # Safety
    /// What `request` calls must be the one for this `kind`, and must keep no pointer of ours.
    unsafe fn put<C: ConsumerContext>(
        &mut self,
        consumer: &BaseConsumer<C>,
        kind: rd::rd_kafka_admin_op_t,
        timeout: Duration,
        request: impl FnOnce(*const rd::rd_kafka_AdminOptions_t, *mut rd::rd_kafka_queue_t),
    ) {
        // SAFETY: the client is alive, and the options are ours until they are destroyed.
        unsafe {
            let options = rd::rd_kafka_AdminOptions_new(consumer.client().native_ptr(), kind);
            let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
            rd::rd_kafka_AdminOptions_set_request_timeout(options, milliseconds, ptr::null_mut(), 0);
            request(options, self.queue.0.as_ptr());
            rd::rd_kafka_AdminOptions_destroy(options);
        }
        self.pending = true;
    }

    /// What `read` makes of the answer, once it is there. The event lives no longer than that.
    fn answer<T>(&mut self, read: impl FnOnce(*mut rd::rd_kafka_event_t) -> T) -> Option<T> {
        if !self.pending {
            return None;
        }
        // SAFETY: the queue is alive.
        let event = unsafe { rd::rd_kafka_queue_poll(self.queue.0.as_ptr(), 0) };
        if event.is_null() {
            return None;
        }
        self.pending = false;
        let answer = read(event);
        // SAFETY: the event is ours, and is given back once.
        unsafe { rd::rd_kafka_event_destroy(event) };
        Some(answer)
    }
}

impl LogOffsets {
    pub fn new<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<Self> {
        Question::new(consumer).map(LogOffsets)
    }

    /// Asks, unless the last question is still open. An answer comes within `timeout`.
    pub fn ask<C: ConsumerContext>(
        &mut self,
        consumer: &BaseConsumer<C>,
        partitions: &[(&str, i32)],
        side: Side,
        timeout: Duration,
    ) {
        if self.0.pending || partitions.is_empty() {
            return;
        }
        let wanted = match side {
            Side::Start => rd::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_EARLIEST,
            Side::End => rd::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST,
        };
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for &(topic, partition) in partitions {
            list.add_partition(topic, partition);
        }
        let (client, kind) =
            (consumer.client().native_ptr(), rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS);
        // SAFETY: the list has `cnt` elements, and librdkafka copies it before it returns.
        unsafe {
            for element in slice::from_raw_parts_mut((*list.ptr()).elems, list.count()) {
                element.offset = wanted as i64;
            }
            self.0.put(consumer, kind, timeout, |options, queue| {
                rd::rd_kafka_ListOffsets(client, list.ptr(), options, queue);
            });
        }
    }

    /// The answer, once it is there; partitions that failed are left out.
    pub fn take(&mut self) -> Option<Vec<Entry>> {
        self.0.answer(|event| {
            let mut found = Vec::new();
            // SAFETY: the event is alive, and whatever it lends is copied.
            unsafe {
                let result = rd::rd_kafka_event_ListOffsets_result(event);
                if !result.is_null() {
                    let mut count = 0;
                    let infos = rd::rd_kafka_ListOffsets_result_infos(result, &mut count);
                    for index in 0..count {
                        let info = *infos.add(index);
                        found.push(entry(&*rd::rd_kafka_ListOffsetsResultInfo_topic_partition(info)));
                    }
                }
            }
            found.retain(|entry| entry.error.is_none());
            found
        })
    }
}

impl GroupMembers {
    pub fn new<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<Self> {
        Question::new(consumer).map(GroupMembers)
    }

    /// Asks, unless the last question is still open. An answer comes within `timeout`.
    pub fn ask<C: ConsumerContext>(&mut self, consumer: &BaseConsumer<C>, group: &str, timeout: Duration) {
        let Ok(group) = CString::new(group) else { return };
        if self.0.pending {
            return;
        }
        let client = consumer.client().native_ptr();
        let kind = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
        let mut groups = [group.as_ptr()];
        // SAFETY: the name is alive, and librdkafka copies it before it returns.
        unsafe {
            self.0.put(consumer, kind, timeout, |options, queue| {
                rd::rd_kafka_DescribeConsumerGroups(
                    client,
                    groups.as_mut_ptr(),
                    groups.len(),
                    options,
                    queue,
                );
            });
        }
    }

    /// The answer, once it is there: how many members the group has, ourselves included. Nothing where
    /// the broker does not tell.
    pub fn take(&mut self) -> Option<usize> {
        let members = self.0.answer(|event| {
            // SAFETY: the event is alive, and whatever it lends is read here.
            unsafe {
                let result = rd::rd_kafka_event_DescribeConsumerGroups_result(event);
                if result.is_null() {
                    return None;
                }
                let mut count = 0;
                let groups = rd::rd_kafka_DescribeConsumerGroups_result_groups(result, &mut count);
                let told = count == 1 && rd::rd_kafka_ConsumerGroupDescription_error(*groups).is_null();
                told.then(|| rd::rd_kafka_ConsumerGroupDescription_member_count(*groups))
            }
        });
        members.flatten()
    }
}

/// # Safety
/// The element must be librdkafka's, so that its pointers and sizes belong together.
unsafe fn entry(element: &rd::rd_kafka_topic_partition_t) -> Entry {
    // SAFETY: the caller's promise.
    let (topic, metadata) = unsafe {
        let metadata = match element.metadata.is_null() {
            true => Vec::new(),
            false => slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size).to_vec(),
        };
        (CStr::from_ptr(element.topic).to_string_lossy().into_owned(), metadata)
    };
    let error = failure(element.err);
    Entry { topic, partition: element.partition, offset: element.offset, metadata, error }
}

fn failure(code: rd::rd_kafka_resp_err_t) -> Option<RDKafkaErrorCode> {
    (code != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| code.into())
}
