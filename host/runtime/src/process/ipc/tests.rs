//! Tests of frames and their buffers.

use super::*;
use proptest::prelude::*;

#[test]
fn nonsense_is_a_fault_and_allocates_nothing() {
    for bytes in [[0xff_u8; 16], [0; 16]] {
        let mut inbox = FrameInbox::default();
        inbox.room(16).extend_from_slice(&bytes);
        assert!(inbox.next().is_err());
    }
    let mut inbox = FrameInbox::default();
    inbox
        .room(64)
        .extend_from_slice(&[12, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]);
    assert!(
        inbox
            .next()
            .unwrap_err()
            .to_string()
            .contains("unknown kind 99")
    );
}

#[test]
fn an_outbox_sends_each_byte_once_and_gives_a_huge_ones_memory_back() {
    let mut outbox = FrameOutbox::default();
    let huge = vec![7; 4 * KEPT_BYTES_MAX];
    let (mut sent, mut room) = (Vec::new(), 0);
    outbox.put(FrameKind::Ended, 1, &[&huge]);
    let mut expected = Vec::new();
    put(&mut expected, FrameKind::Ended, 1, &[&huge]);
    while !outbox.is_empty() {
        room = 100_000;
        let result = outbox.write(|bytes| {
            let written = bytes.len().min(room);
            room -= written;
            sent.extend_from_slice(&bytes[..written]);
            match written {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                _ => Ok(written),
            }
        });
        assert_eq!(result.is_ok(), outbox.is_empty());
    }
    assert!(room > 0 && sent == expected);
    assert!(outbox.bytes.capacity() <= KEPT_BYTES_MAX);
}

#[test]
fn a_large_reply_goes_out_in_parts_between_other_frames() {
    let mut outbox = FrameOutbox::default();
    let body: Vec<u8> = (0..2 * PART_BYTES + 5).map(|byte| byte as u8).collect();
    outbox.put_large(7, body.clone(), whole(FrameKind::Ended, 7, &[b"end"]));
    let (mut inbox, mut taken, mut parts) = (FrameInbox::default(), Vec::new(), Vec::new());
    let mut room = 3 * PART_BYTES / 2;
    while !outbox.is_empty() {
        let _ = outbox.write(|bytes| {
            let written = bytes.len().min(room);
            room -= written;
            inbox.room(written).extend_from_slice(&bytes[..written]);
            match written {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                _ => Ok(written),
            }
        });
        if room == 0 {
            outbox.put(FrameKind::Pong, 0, &[]);
            room = usize::MAX;
        }
        while let Some(frame) = inbox.next().unwrap() {
            taken.push(frame.kind);
            if frame.kind == FrameKind::Part {
                parts.extend_from_slice(frame.payload);
            }
        }
    }
    let (part, pong, ended) = (FrameKind::Part, FrameKind::Pong, FrameKind::Ended);
    assert_eq!(taken, [part, part, pong, part, ended]);
    assert!(parts == body);
}

#[test]
fn replies_share_a_frame_until_something_else_goes_out() {
    let mut outbox = FrameOutbox::default();
    outbox.put_reply(7, 1, b"a");
    outbox.put_reply(7, 2, b"bc");
    outbox.put(FrameKind::Emit, 3, &[b"tick [1]"]);
    outbox.put_reply(7, 3, b"");
    outbox.put_reply(8, 4, &vec![b'x'; REPLIES_BYTES_MAX]);
    outbox.put_reply(8, 5, b"y");
    let mut inbox = FrameInbox::default();
    inbox.room(0).extend_from_slice(&outbox.bytes);
    let mut came = Vec::new();
    while let Some(frame) = inbox.next().unwrap() {
        came.push((frame.kind, frame.id, batch::count(frame.payload)));
    }
    let replies = |id, count| (FrameKind::Replies, id, Some(count));
    let (emit, last) = ((FrameKind::Emit, 3, None), replies(8, 1));
    assert_eq!(
        came,
        [replies(7, 2), emit, replies(7, 1), replies(8, 1), last]
    );
}

proptest! {
    #[test]
    fn any_split_gives_the_same_frames(
        sent in proptest::collection::vec((any::<u64>(), proptest::collection::vec(any::<u8>(), 0..50)), 0..20),
        at in 1_usize..40,
    ) {
        let mut bytes = Vec::new();
        for (id, payload) in &sent {
            put(&mut bytes, FrameKind::Ended, *id, &[payload]);
        }
        let mut inbox = FrameInbox::default();
        let mut came = Vec::new();
        for chunk in bytes.chunks(at) {
            inbox.room(chunk.len()).extend_from_slice(chunk);
            while let Some(frame) = inbox.next().unwrap() {
                prop_assert_eq!(frame.kind, FrameKind::Ended);
                came.push((frame.id, frame.payload.to_vec()));
            }
        }
        prop_assert_eq!(came, sent);
    }
}

#[test]
fn replies_of_a_batch_stay_behind_a_large_one_of_it() {
    for limit in [1, 1000, usize::MAX] {
        let mut outbox = FrameOutbox::default();
        outbox.put_reply(7, 0, b"first");
        outbox.put_large(7, vec![b'x'; 300_000], whole(FrameKind::Replies, 7, &[]));
        outbox.put_reply(7, 0, b"behind it");
        outbox.put_reply(8, 0, b"of another batch");
        outbox.put_reply(7, 0, b"last");
        let total = outbox.len();
        let mut sent = Vec::new();
        outbox
            .write(|bytes| {
                let taken = bytes.len().min(limit);
                sent.extend_from_slice(&bytes[..taken]);
                Ok(taken)
            })
            .unwrap();
        assert_eq!((outbox.len(), sent.len() > total), (0, true));
        let mut inbox = FrameInbox::default();
        inbox.room(sent.len()).extend_from_slice(&sent);
        let mut order = Vec::new();
        while let Some(frame) = inbox.next().unwrap() {
            if frame.id == 7 {
                let texts = batch::Entries(frame.payload).map(|(_, bytes)| bytes.to_vec());
                match frame.kind {
                    FrameKind::Part => order.push(b"part".to_vec()),
                    _ if frame.payload.is_empty() => order.push(b"end of parts".to_vec()),
                    _ => order.extend(texts),
                }
            }
        }
        order.dedup();
        let expected: [&[u8]; 5] = [b"first", b"part", b"end of parts", b"behind it", b"last"];
        assert_eq!(order, expected, "written {limit} bytes at a time");
    }
}
