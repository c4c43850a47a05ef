//! Any bytes are read as a tar without a panic; what was read is written and read again the same.
#![no_main]

use dram_image::tar::{EntryKind, TarReader, TarWriter};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut reader = TarReader::new(bytes);
    while let Ok(Some(mut entry)) = reader.next_entry() {
        let mut data = Vec::new();
        let mut buffer = [0; 512];
        while let Ok(got @ 1..) = reader.read_data(&mut buffer) {
            data.extend_from_slice(&buffer[..got]);
        }
        if let EntryKind::File { size } = &mut entry.kind {
            *size = data.len() as u64;
        } else {
            data.clear();
        }
        let mut writer = TarWriter::new(Vec::new());
        writer.append(&entry, &mut data.as_slice()).unwrap();
        let again = writer.finish().unwrap();
        assert_eq!(TarReader::new(again.as_slice()).next_entry().unwrap().as_ref(), Some(&entry));
    }
});
