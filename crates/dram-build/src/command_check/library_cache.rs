//! Reads `/etc/ld.so.cache`, in which glibc's loader looks up libraries. The format is `struct cache_file_new` of glibc's
//! `sysdeps/generic/dl-cache.h`.

use std::collections::BTreeMap;

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
/// The length of the header: the magic, two counts, flags, an offset and unused fields.
const HEADER_BYTES: usize = 48;
/// The length of an entry: flags, the offsets of name and path, the version of the system, and capabilities.
const ENTRY_BYTES: usize = 24;
/// The largest number of entries that are read; real caches have hundreds.
const MAX_ENTRIES: usize = 100_000;
/// The largest sum of the strings that are read, in bytes.
const MAX_STRING_BYTES: usize = 16 << 20;

/// Returns the paths of each library in the cache; `None` if the file is not understood, as on a big-endian machine.
pub(super) fn parse_library_cache(file: &[u8]) -> Option<BTreeMap<String, Vec<String>>> {
    // An older format may precede it, for older loaders. Offsets count from the beginning of this one.
    let at = file.windows(MAGIC.len()).position(|part| part == MAGIC)?;
    let cache = &file[at..];
    let number = |at: usize| Some(u32::from_le_bytes(cache.get(at..)?.get(..4)?.try_into().ok()?) as usize);
    let count = number(MAGIC.len())?;
    if count > MAX_ENTRIES {
        return None;
    }
    let mut left = MAX_STRING_BYTES;
    let mut string = |at: usize| {
        let text = cache.get(at..)?.split(|byte| *byte == 0).next()?;
        left = left.checked_sub(text.len())?;
        Some(std::str::from_utf8(text).ok()?.to_owned())
    };
    let mut paths: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for index in 0..count {
        let entry = HEADER_BYTES + index * ENTRY_BYTES;
        let (name, path) = (string(number(entry + 4)?)?, string(number(entry + 8)?)?);
        paths.entry(name).or_default().push(path);
    }
    Some(paths)
}

/// Writes a cache with these names and paths.
#[cfg(test)]
pub(super) fn write_library_cache(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut strings = Vec::new();
    let mut table = Vec::new();
    let base = HEADER_BYTES + entries.len() * ENTRY_BYTES;
    for (name, path) in entries {
        let mut place = |text: &str| {
            let at = (base + strings.len()) as u32;
            strings.extend_from_slice(text.as_bytes());
            strings.push(0);
            at
        };
        let (name, path) = (place(name), place(path));
        [3, name, path, 0, 0, 0].iter().for_each(|number: &u32| table.extend(number.to_le_bytes()));
    }
    let mut file = MAGIC.to_vec();
    file.extend((entries.len() as u32).to_le_bytes());
    file.extend((strings.len() as u32).to_le_bytes());
    file.resize(HEADER_BYTES, 0);
    [file, table, strings].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_a_cache_are_found_and_damage_is_noticed() {
        let file = write_library_cache(&[("libz.so.1", "/opt/z/libz.so.1"), ("libz.so.1", "/lib/libz.so.1")]);
        let cache = parse_library_cache(&file).unwrap();
        assert_eq!(cache["libz.so.1"], ["/opt/z/libz.so.1", "/lib/libz.so.1"]);
        let older = [b"ld.so-1.7.0\0\0\0\0\0".as_slice(), &file].concat();
        assert_eq!(parse_library_cache(&older), Some(cache));
        assert_eq!(parse_library_cache(b""), None);
        for length in 0..60 {
            assert_eq!(parse_library_cache(&file[..length]), None);
        }
        let mut many = file;
        many[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(parse_library_cache(&many), None);
    }
}
