//! Reads the report that queue-proxy makes for Knative's autoscaler: the message `Stat` in
//! protocol buffers. Its form has been the same in every release since 0.17, while the names of
//! the Prometheus metrics changed between 1.15 and 1.19.

/// The field `average_concurrent_requests`.
const CONCURRENCY: u64 = 2;

/// Returns the requests that the pod handled at a time in the latest second, or `None` if this is
/// not such a report. An idle pod leaves the field out.
pub fn concurrency(mut bytes: &[u8]) -> Option<f64> {
    let mut found = 0.0;
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        match (tag >> 3, tag & 7) {
            (_, 0) => drop(varint(&mut bytes)?),
            (field, 1) => {
                let value = f64::from_le_bytes(take(&mut bytes, 8)?.try_into().ok()?);
                if field == CONCURRENCY {
                    found = value;
                }
            }
            (_, 2) => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                take(&mut bytes, length)?;
            }
            (_, 5) => drop(take(&mut bytes, 4)?),
            _ => return None,
        }
    }
    Some(found)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (start, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report as Go's library writes it: pod_name "w-1", the two averages, process_uptime.
    const BUSY: &[u8] =
        b"\x0a\x03w-1\x11\0\0\0\0\0\0\xf0\x3f\x19\0\0\0\0\0\0\xf0\x3f\x31\0\0\0\0\0\0\x24\x40";

    #[test]
    fn a_report_has_its_concurrency() {
        assert_eq!(concurrency(BUSY), Some(1.0));
        assert_eq!(concurrency(b"\x0a\x03w-1"), Some(0.0));
        assert_eq!(concurrency(b""), Some(0.0));
    }

    #[test]
    fn other_text_is_not_a_report_and_never_panics() {
        assert_eq!(concurrency(b"# HELP queue_requests_per_second\n"), None);
        for end in 1..BUSY.len() {
            let _ = concurrency(&BUSY[..end]);
        }
        for first in 0..=255u8 {
            let _ = concurrency(&[first, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        }
    }
}
