use super::*;
use crate::ArchiveLimit;

fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}

fn entry(name: &str, kind: TarEntryKind) -> TarEntry {
    TarEntry { path: path(name), kind, mode: 0o4755, uid: 7, gid: 3_000_000, mtime: -5, xattrs: vec![] }
}

fn pack(entries: &[(TarEntry, &[u8])]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for (entry, data) in entries {
        writer.append(entry, &mut &data[..]).unwrap();
    }
    writer.finish().unwrap()
}

fn read_all(bytes: &[u8]) -> Result<Vec<(TarEntry, Vec<u8>)>, TarError> {
    let mut reader = TarReader::new(bytes);
    let mut all = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut data = Vec::new();
        let mut buffer = [0; 100];
        loop {
            match reader.read_data(&mut buffer)? {
                0 => break,
                got => data.extend_from_slice(&buffer[..got]),
            }
        }
        all.push((entry, data));
    }
    Ok(all)
}

fn samples() -> Vec<(TarEntry, &'static [u8])> {
    let long = "d/".repeat(120) + "end";
    let mut tagged = entry("cap", TarEntryKind::File { size: 1 });
    tagged.xattrs = vec![(b"security.capability".to_vec(), b"\x01\0\n=".to_vec()), (b"user.a".to_vec(), vec![0; 999])];
    vec![
        (entry("", TarEntryKind::Dir), b""),
        (entry("a", TarEntryKind::Dir), b""),
        (entry("a/f", TarEntryKind::File { size: 513 }), &[7; 513]),
        (entry(&long, TarEntryKind::File { size: 0 }), b""),
        (entry("l", TarEntryKind::Symlink(vec![b'x'; 3000])), b""),
        (entry("h", TarEntryKind::HardLink(path(&long))), b""),
        (entry("c", TarEntryKind::Char(1, 3)), b""),
        (entry("p", TarEntryKind::Fifo), b""),
        (tagged, b"!"),
    ]
}

#[test]
fn written_entries_read_back_equal() {
    let want: Vec<_> = samples().into_iter().map(|(entry, data)| (entry, data.to_vec())).collect();
    assert_eq!(read_all(&pack(&samples())).unwrap(), want);
}

#[test]
fn truncated_archives_are_errors() {
    let whole = pack(&samples());
    let (all, end) = (read_all(&whole).unwrap(), whole.len() - 1024);
    for length in (1..end).step_by(97).filter(|length| length % 512 != 0) {
        // The padding of a file's last block is not part of its content.
        if let Ok(read) = read_all(&whole[..length]) {
            assert!(whole[length..length.next_multiple_of(512)].iter().all(|byte| *byte == 0), "cut at {length}");
            assert_eq!(read, all[..read.len()], "cut at {length}");
            let TarEntryKind::File { size } = read.last().unwrap().0.kind else { panic!("cut at {length}") };
            assert_eq!(read.last().unwrap().1.len() as u64, size);
        }
    }
}

/// umoci writes archives like this.
#[test]
fn missing_padding_of_the_last_file_is_accepted() {
    let whole = pack(&[(entry("f", TarEntryKind::File { size: 4 }), b"one\n")]);
    let end = whole.len() - 1024 - 508;
    assert_eq!(read_all(&whole[..end]).unwrap(), read_all(&whole).unwrap());
    assert!(read_all(&whole[..end - 1]).is_err());
}

#[test]
fn corrupted_bytes_do_not_panic() {
    let whole = pack(&samples());
    let mut state = 9_u64;
    for _ in 0..3000 {
        let mut bytes = whole.clone();
        for _ in 0..4 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = usize::try_from(state >> 33).unwrap() % bytes.len();
            bytes[at] = u8::try_from(state >> 56).unwrap();
        }
        let _ = read_all(&bytes);
    }
}

#[test]
fn archives_beyond_the_limits_are_refused() {
    let deep = entry(&"d/".repeat(5), TarEntryKind::Dir);
    let bytes = pack(&[(entry("a", TarEntryKind::Dir), b""), (deep, b""), (entry("b", TarEntryKind::Dir), b"")]);
    for (text, found) in [
        ("entries=2", Some(ArchiveLimit::Entries)),
        ("depth=4", Some(ArchiveLimit::Depth)),
        ("entries=3,depth=5", None),
    ] {
        let mut reader = TarReader::new(bytes.as_slice()).with_limits(&text.parse().unwrap());
        let ended = loop {
            match reader.next_entry() {
                Ok(Some(_)) => {}
                Ok(None) => break None,
                Err(TarError::LimitExceeded(exceeded)) => break Some(exceeded.limit),
                Err(other) => panic!("{other}"),
            }
        };
        assert_eq!(ended, found, "{text}");
    }
}

#[test]
fn device_numbers_beyond_the_range_of_linux_are_refused() {
    for (major, minor, is_one) in [(4095, 1_048_575, true), (4096, 0, false), (0, 1_048_576, false)] {
        let device = entry("c", TarEntryKind::Char(major, minor));
        assert_eq!(read_all(&pack(&[(device.clone(), b"")])).is_ok_and(|all| all[0].0 == device), is_one);
    }
}

#[test]
fn last_of_duplicate_xattrs_wins() {
    let mut one = entry("f", TarEntryKind::File { size: 0 });
    one.xattrs = [("user.b", "1"), ("user.a", "2"), ("user.b", "3")].map(|(a, b)| (a.into(), b.into())).to_vec();
    let (read, _) = read_all(&pack(&[(one, b"")])).unwrap().remove(0);
    let wanted: [Xattr; 2] = [("user.a", "2"), ("user.b", "3")].map(|(a, b)| (a.into(), b.into()));
    assert_eq!(read.xattrs, wanted);
}

#[test]
fn entries_after_the_end_marker_are_ignored() {
    let one = pack(&[(entry("a", TarEntryKind::Dir), b"")]);
    let two = pack(&[(entry("b", TarEntryKind::Dir), b"")]);
    assert_eq!(read_all(&[one, two].concat()).unwrap().len(), 1);
}

fn with_pax(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(body.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes.extend(pack(&[(entry("a", TarEntryKind::File { size: 600 }), &[1; 600])]));
    bytes
}

#[test]
fn hostile_headers_are_refused() {
    for (kind, body, want) in [
        (b'x', &b"13 path=../x\n"[..], "name cannot be used"),
        (b'x', b"11 path=a\n", "length"),
        (b'x', b"13 path=a\0bc\n", "name cannot be used"),
        (b'x', b"99999999999 path=a\n", "length"),
        (b'x', b"22 GNU.sparse.major=1\n", "sparse"),
        (b'g', b"10 path=x\n", "global"),
        (b'x', b"18 uid=4294967295\n", "larger than Linux"),
        (b'x', b"28 size=9223372036854775808\n", "larger than any file"),
        (b'x', b"18 SCHILY.xattr.=\n", "attribute is longer"),
    ] {
        let error = read_all(&with_pax(kind, body)).unwrap_err().to_string();
        assert!(error.contains(want), "{}: {error}", body.escape_ascii());
    }
    let mut huge = with_pax(b'x', b"");
    huge[124..136].copy_from_slice(b"77777777777\0");
    let mut header = tar::Header::from_byte_slice(&huge[..512]).clone();
    header.set_cksum();
    huge[..512].copy_from_slice(header.as_bytes());
    let exceeded = |error: TarError| match error {
        TarError::LimitExceeded(exceeded) => exceeded.limit,
        other @ (TarError::Read { .. }
        | TarError::Truncated { .. }
        | TarError::Malformed { .. }
        | TarError::Path(_)
        | TarError::Unsupported { .. }) => panic!("{other}"),
    };
    assert_eq!(exceeded(read_all(&huge).unwrap_err()), ArchiveLimit::Header);
    // The extended headers of an entry count together.
    let many = [with_pax(b'x', &[b'9'; 0])[..512].to_vec(), with_pax(b'L', &[b'n'; 300])[..1024].to_vec()].concat();
    assert_eq!(exceeded(read_all(&many.repeat(1500)).unwrap_err()), ArchiveLimit::Header);
    assert!(read_all(&[b'x'; 2000]).unwrap_err().to_string().contains("not a tar"));
}
