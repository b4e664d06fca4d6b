use super::*;

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut made = vec![kind, 0, 1];
    made.extend((payload.len() as u32).to_be_bytes());
    made.extend(payload);
    made.push(0xce);
    made
}

fn deliver(key: &[u8]) -> Vec<u8> {
    let mut made = vec![0, 60, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, key.len() as u8];
    made.extend(key);
    made
}

#[test]
fn frames_go_on_however_they_are_cut() {
    let tune = [0, 10, 0, 30, 0, 9, 0, 2, 0, 0, 0, 60];
    // A readable header has only a content type.
    let header = |text: &[u8]| [&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0x80, 0, 2][..], text].concat();
    let before = [
        frame(1, &[0, 10, 0, 10, 0, 9, 0, 0, 0, 0]),
        frame(1, &tune),
        frame(1, &deliver(b"k\xff")),
        frame(2, &header(b"\xffx")),
        frame(3, b"\xff\xff\xff"),
        frame(1, &deliver(b"k\xc3\xa9")),
        frame(2, &header(b"xx")),
        frame(8, b""),
    ];
    let mut whole = Vec::new();
    Frames::new(1 << 20).read(&before.concat(), &mut whole).unwrap();
    assert!(whole.windows(4).any(|bytes| bytes == b"k%FF") && whole.windows(4).any(|bytes| bytes == b"%FFx"));
    assert!(whole.starts_with(&before[..2].concat()) && whole.ends_with(&before[4..].concat()));
    for size in 1..40 {
        let (mut frames, mut to) = (Frames::new(1 << 20), Vec::new());
        before.concat().chunks(size).for_each(|chunk| frames.read(chunk, &mut to).unwrap());
        assert_eq!(to, whole, "chunks of {size}");
        assert_eq!(frames.frame_max, 128 * 1024);
    }
}

#[test]
fn a_frame_that_is_too_large_ends_the_stream_before_it_is_kept() {
    let mut to = Vec::new();
    let error = Frames::new(4096).read(&[2, 0, 1, 0x10, 0, 0, 0, 0], &mut to).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[test]
fn a_server_without_a_bound_gets_ours() {
    for (offered, ours, agreed_on) in [
        (0, 1 << 20, 1 << 20),
        (1 << 22, 1 << 20, 1 << 20),
        (1 << 17, 1 << 20, 1 << 17),
        (1 << 17, 8192, 8192),
    ] {
        let mut bytes = u32::to_be_bytes(offered);
        assert_eq!(agreed(&mut bytes, ours), agreed_on);
        assert_eq!(bytes, agreed_on.to_be_bytes());
    }
}
