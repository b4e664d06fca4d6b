//! The properties that a server tells in its greeting (`connection.start`, AMQP 0-9-1 section
//! 1.4.2.1). lapin does not give access to them, and RabbitMQ's behaviour depends on its version.

/// The bytes of class, method and protocol version, which come before the properties.
const START_HEADER: usize = 6;

/// The properties that longhaul uses. A server may omit them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// The product: `RabbitMQ`, or another broker that speaks its protocol.
    pub product: Option<String>,
    /// The version, such as `4.0.5`.
    pub version: Option<String>,
    pub cluster_name: Option<String>,
}

impl Server {
    /// Reads the payload of a `connection.start`.
    pub(super) fn read(start: &[u8]) -> Server {
        let mut server = Server::default();
        // The search ends at a property that cannot be read. The properties before it count.
        let _ = read(start, &mut server);
        server
    }

    /// Returns whether the version is this one or a later one; false if the server does not tell
    /// its version.
    pub fn is_at_least(&self, major: u32, minor: u32) -> bool {
        let number = |part: Option<&str>| part.and_then(|part| part.parse::<u32>().ok());
        let mut parts = self.version.as_deref().unwrap_or_default().split('.');
        match (number(parts.next()), number(parts.next())) {
            (Some(its_major), its_minor) => (its_major, its_minor.unwrap_or(0)) >= (major, minor),
            _ => false,
        }
    }

    /// Returns whether the server says that it is older than this version.
    pub fn is_before(&self, major: u32, minor: u32) -> bool {
        self.version.is_some() && !self.is_at_least(major, minor)
    }
}

fn read(start: &[u8], server: &mut Server) -> Option<()> {
    let mut rest = start.get(START_HEADER..)?;
    let size = long(&mut rest)?;
    let mut table = rest.get(..size)?;
    while !table.is_empty() {
        let length = usize::from(*take(&mut table, 1)?.first()?);
        let name = take(&mut table, length)?;
        match take(&mut table, 1)?.first()? {
            // The value is a text or a nested table.
            b'S' | b'F' => {
                let size = long(&mut table)?;
                let value = take(&mut table, size)?;
                let text = || Some(String::from_utf8_lossy(value).into_owned());
                match name {
                    b"product" => server.product = text(),
                    b"version" => server.version = text(),
                    b"cluster_name" => server.cluster_name = text(),
                    _ => {}
                }
            }
            b't' => drop(take(&mut table, 1)?),
            b'I' => drop(take(&mut table, 4)?),
            // RabbitMQ sends no other types.
            _ => return None,
        }
    }
    Some(())
}

pub(super) fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn long(rest: &mut &[u8]) -> Option<usize> {
    let bytes = take(rest, 4)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_version_behind_a_nested_table_and_survives_nonsense() {
        let text = |name: &str, value: &str| {
            let mut entry = vec![name.len() as u8];
            entry.extend(name.as_bytes());
            entry.push(b'S');
            entry.extend((value.len() as u32).to_be_bytes());
            entry.extend(value.as_bytes());
            entry
        };
        let mut table = b"\x0ccapabilitiesF\x00\x00\x00\x06\x03abct\x01".to_vec();
        table.extend(text("cluster_name", "rabbit@here"));
        table.extend(text("version", "4.0.5"));
        let mut start = vec![0, 10, 0, 10, 0, 9];
        start.extend((table.len() as u32).to_be_bytes());
        start.extend(table);
        let server = Server::read(&start);
        assert_eq!(server.version.as_deref(), Some("4.0.5"));
        assert_eq!(server.cluster_name.as_deref(), Some("rabbit@here"));
        for cut in 0..start.len() {
            assert_eq!(Server::read(&start[..cut]), Server::default());
        }
    }

    #[test]
    fn versions_are_compared_by_number() {
        let server = |version: &str| Server { version: Some(version.to_owned()), ..Server::default() };
        assert!(server("4.10.0").is_at_least(4, 3) && server("5").is_at_least(4, 3));
        assert!(!server("4.2.9").is_at_least(4, 3) && server("3.10.8").is_before(4, 0));
        let untold = Server::default();
        assert!(!untold.is_at_least(0, 1) && !untold.is_before(99, 0));
    }
}
