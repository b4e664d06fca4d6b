//! Calls librdkafka where rdkafka 0.39 has no wrapper, or a wrapper that panics or hides an error.
//! This is the only file with `unsafe`.
//!
//! - rdkafka's `poll` does not tell which record an error belongs to; [`poll`] does.
//! - `Consumer::commit` hides how an asynchronous commit ended; a commit with a queue reports it.
//! - rdkafka panics on metadata and header names that are not UTF-8. Any client may write such.
//! - rdkafka asks for topic ids, log ends and group members with calls that block; admin requests
//!   do not block.

use std::ffi::{CStr, CString, c_char};
use std::ptr::{self, NonNull};
use std::slice;
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::client::Client;
use rdkafka::consumer::{BaseConsumer as Consumer, Consumer as _, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::log;
use super::notice::{Entry, Notice, Polled, Record, Side, Topic};

/// Owns an event and destroys it when it is dropped.
struct Event(NonNull<rd::rd_kafka_event_t>);

/// A queue of librdkafka's events. It must be dropped before its client.
pub struct Queue(NonNull<rd::rd_kafka_queue_t>);

/// An admin request whose answer comes to a queue. Only one request is open at a time.
pub struct Question {
    queue: Queue,
    pending: bool,
}

/// Lends the next event of the consumer's queue to `take`; does not wait for one.
pub fn poll<R>(queue: &Queue, take: impl FnOnce(Polled<'_>) -> R) -> R {
    let Some(event) = queue.take(Duration::ZERO) else { return take(Polled::Nothing) };
    let raw = event.0.as_ptr();
    // SAFETY: the event lives until `take` returns; a record borrows from it, the rest is copied.
    let polled = unsafe {
        match rd::rd_kafka_event_type(raw) {
            rd::RD_KAFKA_EVENT_FETCH => match rd::rd_kafka_event_message_next(raw).as_ref() {
                Some(message) => Polled::Record(record(message)),
                None => Polled::Served,
            },
            rd::RD_KAFKA_EVENT_REBALANCE => {
                let entries = entries_of(rd::rd_kafka_event_topic_partition_list(raw));
                let assigned = rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
                let is_assigned = rd::rd_kafka_event_error(raw) == assigned;
                Polled::Notice(if is_assigned { Notice::Assigned(entries) } else { Notice::Revoked(entries) })
            }
            rd::RD_KAFKA_EVENT_OFFSET_COMMIT => {
                let partitions = entries_of(rd::rd_kafka_event_topic_partition_list(raw));
                Polled::Notice(Notice::Committed {
                    partitions,
                    error: failure(rd::rd_kafka_event_error(raw)),
                })
            }
            rd::RD_KAFKA_EVENT_ERROR => match failure(rd::rd_kafka_event_error(raw)) {
                Some(code) => Polled::Notice(Notice::Failed {
                    at: place(raw),
                    code,
                    reason: text(rd::rd_kafka_event_error_string(raw)),
                    fatal: rd::rd_kafka_event_error_is_fatal(raw) != 0,
                }),
                None => Polled::Served,
            },
            rd::RD_KAFKA_EVENT_STATS => {
                let json = CStr::from_ptr(rd::rd_kafka_event_stats(raw));
                Polled::Notice(Notice::Statistics(json.to_bytes().to_vec()))
            }
            rd::RD_KAFKA_EVENT_LOG => {
                let (mut facility, mut line, mut level) = (ptr::null(), ptr::null(), 0);
                if rd::rd_kafka_event_log(raw, &mut facility, &mut line, &mut level) == 0 {
                    log(level, text(facility).trim(), text(line).trim());
                }
                Polled::Served
            }
            _ => Polled::Served,
        }
    };
    take(polled)
}

/// # Safety
/// The message must come from a fetch.
unsafe fn record(message: &rd::rd_kafka_message_t) -> Record<'_> {
    // SAFETY: pointers and lengths are librdkafka's own; the message keeps its topic and headers
    // alive; an index past the last header returns an error.
    unsafe {
        let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        let timestamp = rd::rd_kafka_message_timestamp(message, &mut kind);
        let has_timestamp = kind != rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        let (mut list, mut headers) = (ptr::null_mut(), Vec::new());
        if failure(rd::rd_kafka_message_headers(message, &mut list)).is_none() {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            let mut next = |index| {
                let code = rd::rd_kafka_header_get_all(list, index, &mut name, &mut value, &mut size);
                failure(code).is_none().then(|| (text(name), bytes(value, size)))
            };
            headers.extend((0..).map_while(&mut next));
        }
        Record {
            topic: CStr::from_ptr(rd::rd_kafka_topic_name(message.rkt)).to_str().unwrap_or_default(),
            partition: message.partition,
            offset: message.offset,
            key: bytes(message.key, message.key_len),
            payload: bytes(message.payload, message.len),
            timestamp: (has_timestamp && timestamp >= 0).then_some(timestamp),
            headers,
        }
    }
}

/// The partition that an error belongs to.
///
/// # Safety
/// The event must be alive.
unsafe fn place(event: *mut rd::rd_kafka_event_t) -> Option<Entry> {
    // SAFETY: the caller's promise; the partition that is handed out is ours to destroy.
    unsafe {
        let place = rd::rd_kafka_event_topic_partition(event);
        let found = entry(place.as_ref()?);
        rd::rd_kafka_topic_partition_destroy(place);
        Some(found)
    }
}

/// The entries of a list.
pub fn entries(list: &TopicPartitionList) -> Vec<Entry> {
    // SAFETY: the list lives as long as the borrow.
    unsafe { entries_of(list.ptr()) }
}

/// # Safety
/// The list must be alive, or null.
unsafe fn entries_of(list: *const rd::rd_kafka_topic_partition_list_t) -> Vec<Entry> {
    // SAFETY: a list holds `cnt` elements, which are librdkafka's.
    unsafe {
        if list.is_null() || (*list).cnt <= 0 {
            return Vec::new();
        }
        let elements = slice::from_raw_parts((*list).elems, (*list).cnt.unsigned_abs() as usize);
        elements.iter().map(|element| entry(element)).collect()
    }
}

/// Commits without blocking; the result is a [`Notice::Committed`] of `queue`.
///
/// # Errors
/// If the request could not even be queued.
pub fn commit(
    consumer: &Consumer<impl ConsumerContext>,
    offsets: &TopicPartitionList,
    queue: &Queue,
) -> Result<(), RDKafkaErrorCode> {
    // SAFETY: all three are alive, and librdkafka copies the list.
    let code = unsafe {
        let (client, queue) = (consumer.client().native_ptr(), queue.0.as_ptr());
        rd::rd_kafka_commit_queue(client, offsets.ptr(), queue, None, ptr::null_mut())
    };
    failure(code).map_or(Ok(()), Err)
}

/// Commits and waits for the result, at most for `patience`.
///
/// # Errors
/// If a broker refused a part of it or did not answer.
pub fn commit_within(
    consumer: &Consumer<impl ConsumerContext>,
    offsets: &TopicPartitionList,
    patience: Duration,
) -> Result<(), RDKafkaErrorCode> {
    let queue = Queue::new(consumer.client()).ok_or(RDKafkaErrorCode::Fail)?;
    commit(consumer, offsets, &queue)?;
    let event = queue.take(patience).ok_or(RDKafkaErrorCode::OperationTimedOut)?;
    // SAFETY: the event is alive, and its list with it.
    let (error, entries) = unsafe {
        let raw = event.0.as_ptr();
        (failure(rd::rd_kafka_event_error(raw)), entries_of(rd::rd_kafka_event_topic_partition_list(raw)))
    };
    entries.iter().find_map(|entry| entry.error).or(error).map_or(Ok(()), Err)
}

/// Gives the client other credentials for SASL PLAIN and SCRAM; the next connection uses them.
pub fn set_credentials(consumer: &Consumer<impl ConsumerContext>, user: &str, password: &str) {
    let (Ok(user), Ok(password)) = (CString::new(user), CString::new(password)) else { return };
    // SAFETY: the client is alive and copies both texts; an error is ours to destroy.
    unsafe {
        let client = consumer.client().native_ptr();
        ignore(rd::rd_kafka_sasl_set_credentials(client, user.as_ptr(), password.as_ptr()));
    }
}

/// The first offset of a partition's log and the one after its last, as far as librdkafka has seen
/// them; asks nobody.
pub fn cached_bounds(
    consumer: &Consumer<impl ConsumerContext>,
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

/// Whether the client knows the controller of the cluster; asks nobody.
pub fn knows_controller(consumer: &Consumer<impl ConsumerContext>) -> bool {
    // SAFETY: the client is alive, and the call returns a number that it has.
    unsafe { rd::rd_kafka_controllerid(consumer.client().native_ptr(), 0) >= 0 }
}

impl Queue {
    /// The queue that `BaseConsumer::poll` serves.
    pub fn of_consumer(consumer: &Consumer<impl ConsumerContext>) -> Option<Queue> {
        // SAFETY: the client is alive; the call returns a new reference, or null without a group.
        NonNull::new(unsafe { rd::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) }).map(Queue)
    }

    fn new(client: &Client<impl ClientContext>) -> Option<Queue> {
        // SAFETY: the client is alive; the call returns a queue of our own.
        NonNull::new(unsafe { rd::rd_kafka_queue_new(client.native_ptr()) }).map(Queue)
    }

    fn take(&self, patience: Duration) -> Option<Event> {
        let milliseconds = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is alive; the event is ours.
        NonNull::new(unsafe { rd::rd_kafka_queue_poll(self.0.as_ptr(), milliseconds) }).map(Event)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: this reference is ours, and is released once.
        unsafe { rd::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event is ours, and is destroyed once.
        unsafe { rd::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

impl Question {
    pub fn new(client: &Client<impl ClientContext>) -> Option<Self> {
        Queue::new(client).map(|queue| Question { queue, pending: false })
    }

    /// Sends the request. `request` gets the options and the queue for the answer; librdkafka
    /// copies the options before it returns.
    ///
    /// # Safety
    /// The client must be alive. The call that `request` makes must be the one for this `kind`, and
    /// must keep no pointer of ours.
    unsafe fn put(
        &mut self,
        client: *mut rd::rd_kafka_t,
        kind: rd::rd_kafka_admin_op_t,
        timeout: Duration,
        request: impl FnOnce(*mut rd::rd_kafka_AdminOptions_t, *mut rd::rd_kafka_queue_t),
    ) {
        // SAFETY: the client is alive, and the options are ours until they are destroyed.
        unsafe {
            let options = rd::rd_kafka_AdminOptions_new(client, kind);
            let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
            rd::rd_kafka_AdminOptions_set_request_timeout(options, milliseconds, ptr::null_mut(), 0);
            request(options, self.queue.0.as_ptr());
            rd::rd_kafka_AdminOptions_destroy(options);
        }
        self.pending = true;
    }

    /// Returns the answer as `read` copies it, if it comes within `patience`. Then drops the event.
    fn answer<T>(
        &mut self,
        patience: Duration,
        read: impl FnOnce(*mut rd::rd_kafka_event_t) -> T,
    ) -> Option<T> {
        let event = self.pending.then(|| self.queue.take(patience)).flatten()?;
        self.pending = false;
        Some(read(event.0.as_ptr()))
    }

    /// Asks, unless the last question is still open. An answer comes within `timeout`.
    pub fn ask_offsets(
        &mut self,
        consumer: &Consumer<impl ConsumerContext>,
        partitions: &[(&str, i32)],
        side: Side,
        timeout: Duration,
    ) {
        if self.pending || partitions.is_empty() {
            return;
        }
        let wanted = if matches!(side, Side::Start) { Offset::Beginning } else { Offset::End };
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for &(topic, partition) in partitions {
            // Fails only for a number that is not an offset.
            let _ = list.add_partition_offset(topic, partition, wanted);
        }
        use rd::rd_kafka_IsolationLevel_t::*;
        let isolation = match side {
            Side::WrittenEnd => RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED,
            Side::Start | Side::End => RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED,
        };
        let client = consumer.client().native_ptr();
        let kind = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS;
        // SAFETY: the list is alive, and librdkafka copies it before it returns.
        unsafe {
            self.put(client, kind, timeout, |options, queue| {
                ignore(rd::rd_kafka_AdminOptions_set_isolation_level(options, isolation));
                rd::rd_kafka_ListOffsets(client, list.ptr(), options, queue);
            });
        }
    }

    /// Returns the answer if it comes within `patience`, without the partitions that failed.
    pub fn offsets(&mut self, patience: Duration) -> Option<Vec<Entry>> {
        self.answer(patience, |event| {
            let mut found = Vec::new();
            // SAFETY: the event is alive, and everything that it lends is copied.
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

    /// Asks, unless the last question is still open. An answer comes within `timeout`.
    pub fn ask_members(&mut self, consumer: &Consumer<impl ConsumerContext>, group: &str, timeout: Duration) {
        let (Ok(group), false) = (CString::new(group), self.pending) else { return };
        let client = consumer.client().native_ptr();
        let kind = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
        let mut groups = [group.as_ptr()];
        // SAFETY: the name is alive, and librdkafka copies it before it returns.
        unsafe {
            self.put(client, kind, timeout, |options, queue| {
                let (names, count) = (groups.as_mut_ptr(), groups.len());
                rd::rd_kafka_DescribeConsumerGroups(client, names, count, options, queue);
            });
        }
    }

    /// Returns the answer if it comes within `patience`: the number of members of the group, this
    /// one included, or `None` if the broker does not tell it.
    pub fn members(&mut self, patience: Duration) -> Option<usize> {
        let members = self.answer(patience, |event| {
            // SAFETY: the event is alive, and everything that it lends is read here.
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

    /// Asks this broker, or the controller, unless the last question is still open. The names must
    /// be distinct.
    pub fn ask_topics(
        &mut self,
        client: &Client<impl ClientContext>,
        broker: Option<i32>,
        names: impl Iterator<Item = impl Into<Vec<u8>>>,
        timeout: Duration,
    ) {
        let names: Vec<CString> = names.filter_map(|name| CString::new(name).ok()).collect();
        if self.pending || names.is_empty() {
            return;
        }
        let client = client.native_ptr();
        let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        let kind = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        // SAFETY: the names are alive; librdkafka copies them, and then copies the collection.
        unsafe {
            let topics = rd::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            self.put(client, kind, timeout, |options, queue| {
                ignore(rd::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1));
                if let Some(broker) = broker {
                    rd::rd_kafka_AdminOptions_set_broker(options, broker, ptr::null_mut(), 0);
                }
                rd::rd_kafka_DescribeTopics(client, topics, options, queue);
            });
            rd::rd_kafka_TopicCollection_destroy(topics);
        }
    }

    /// Returns the answer if it comes within `patience`.
    pub fn topics(&mut self, patience: Duration) -> Option<Vec<Topic>> {
        self.answer(patience, |event| {
            // SAFETY: the event is alive, and everything that it lends is copied.
            unsafe {
                let result = rd::rd_kafka_event_DescribeTopics_result(event);
                if result.is_null() {
                    return Vec::new();
                }
                let mut count = 0;
                let topics = rd::rd_kafka_DescribeTopics_result_topics(result, &mut count);
                (0..count).map(|index| topic(*topics.add(index))).collect()
            }
        })
    }
}

/// # Safety
/// The description must be alive.
unsafe fn topic(told: *const rd::rd_kafka_TopicDescription_t) -> Topic {
    use rd::rd_kafka_AclOperation_t::*;
    // SAFETY: the caller's promise; the arrays have the lengths that come with them.
    unsafe {
        let name = text(rd::rd_kafka_TopicDescription_name(told));
        let error = rd::rd_kafka_TopicDescription_error(told);
        let error = if error.is_null() { None } else { failure(rd::rd_kafka_error_code(error)) };
        let id = rd::rd_kafka_TopicDescription_topic_id(told);
        let id = if id.is_null() {
            0
        } else {
            let high = rd::rd_kafka_Uuid_most_significant_bits(id).cast_unsigned();
            let low = rd::rd_kafka_Uuid_least_significant_bits(id).cast_unsigned();
            u128::from(high) << 64 | u128::from(low)
        };
        let mut count = 0;
        let operations = rd::rd_kafka_TopicDescription_authorized_operations(told, &mut count);
        let operations =
            (!operations.is_null() && count > 0).then(|| slice::from_raw_parts(operations, count));
        let may =
            |wanted| operations.map(|all| all.contains(&RD_KAFKA_ACL_OPERATION_ALL) || all.contains(&wanted));
        let (readable, writable) = (may(RD_KAFKA_ACL_OPERATION_READ), may(RD_KAFKA_ACL_OPERATION_WRITE));
        let mut count = 0;
        let partitions = rd::rd_kafka_TopicDescription_partitions(told, &mut count);
        let number = |index| rd::rd_kafka_TopicPartitionInfo_partition(*partitions.add(index));
        let partitions = if partitions.is_null() { Vec::new() } else { (0..count).map(number).collect() };
        Topic { name, id: (id != 0).then_some(id), partitions, readable, writable, error }
    }
}

/// # Safety
/// The error must be ours, or null.
unsafe fn ignore(error: *mut rd::rd_kafka_error_t) {
    if !error.is_null() {
        // SAFETY: the caller's promise.
        unsafe { rd::rd_kafka_error_destroy(error) }
    }
}

/// # Safety
/// The text must be alive, or null.
unsafe fn text(text: *const c_char) -> String {
    // SAFETY: the caller's promise.
    let text = (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) });
    text.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}

/// # Safety
/// The pointer and the length must belong together, and live as long as the result.
unsafe fn bytes<'a, T>(start: *const T, length: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller's promise.
    (!start.is_null()).then(|| unsafe { slice::from_raw_parts(start.cast::<u8>(), length) })
}

/// # Safety
/// The element must be librdkafka's, so that its pointers and sizes belong together.
unsafe fn entry(element: &rd::rd_kafka_topic_partition_t) -> Entry {
    // SAFETY: the caller's promise.
    let (topic, metadata) = unsafe { (text(element.topic), bytes(element.metadata, element.metadata_size)) };
    Entry {
        topic,
        partition: element.partition,
        offset: element.offset,
        metadata: metadata.unwrap_or_default().to_vec(),
        error: failure(element.err),
    }
}

fn failure(code: rd::rd_kafka_resp_err_t) -> Option<RDKafkaErrorCode> {
    (code != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| code.into())
}
