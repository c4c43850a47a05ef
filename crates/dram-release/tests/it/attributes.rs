//! Removal of build paths from modules, and invalid modules.

use std::path::Path;
use std::process::Command;

use dram_release::beam::{Beam, BeamError, StripRule, strip};
use dram_release::etf::decode;
use dram_release::resolve::ReleaseRules;
use dram_release::term::Term;

use crate::peer;

/// Compiles modules below `dir`: `one` and `two` with external resources in two directories, `none` without any.
const MAKE: &str = r##"
[dir] = System.argv()
body = ~S'''
  @behaviour Access
  Module.register_attribute(__MODULE__, :kept, persist: true)
  Module.register_attribute(__MODULE__, :called, persist: true)
  @called &String.length/1
  @kept {"/one/a", [external_resource: 1], %{:a => 1.5, "ü" => 12345678901234567890}}
  def fetch(_, _), do: :error
  def get_and_update(_, _, _), do: nil
  def pop(_, _), do: nil
'''
for {name, resources} <- [one: ~w(/one/a /one/b), two: ~w(/two/with/a /two/b), none: []] do
  all = Enum.map_join(resources, "\n", &"@external_resource #{inspect(&1)}")
  [{_, bytes}] = Code.compile_string("defmodule Res do\n#{all}\n#{body}\nend")
  File.write!(Path.join(dir, "#{name}.beam"), bytes)
end
"##;

fn compile_modules(dir: &Path) -> [Vec<u8>; 3] {
    let script = dir.join("make.exs");
    std::fs::write(&script, MAKE).unwrap();
    let output = Command::new("elixir").arg(&script).arg(dir).env("LC_ALL", "C.UTF-8").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ["one", "two", "none"].map(|name| std::fs::read(dir.join(format!("{name}.beam"))).unwrap())
}

#[test]
fn equal_sources_give_equal_modules_without_external_resources() {
    let dir = peer::scratch();
    let [one, two, none] = compile_modules(dir.path());
    for style in [ReleaseRules::mix("1.14.0"), ReleaseRules::mix("1.18.0"), ReleaseRules::Otp] {
        let keep = StripRule::for_rules(&style, &[], false);
        let drop = keep.clone().drop_external_resources(true);
        let [one_kept, two_kept] = [&one, &two].map(|module| strip(module, Some(b"Elixir.Res"), &keep).unwrap());
        assert_ne!(one_kept, two_kept);
        let [one, two, none] = [&one, &two, &none].map(|module| strip(module, None, &drop).unwrap());
        assert_eq!(one, two);
        assert!(one.len() < one_kept.len());
        let text = |module: &[u8]| String::from_utf8_lossy(module).into_owned();
        assert!(text(&one_kept).contains("/one/b") && !text(&one).contains("/one/b"));
        // The `vsn` attribute is computed from the code alone, so the attributes equal those of a module without
        // resources.
        let [mine, theirs] = [&one, &none].map(|module| Beam::read(module).unwrap().attributes().unwrap());
        assert_eq!(mine, theirs);
        for (name, bytes) in Beam::read(&one_kept).unwrap().chunks() {
            if name != b"Attr" {
                assert_eq!(Beam::read(&one).unwrap().chunk(name), Some(*bytes));
            }
        }
        // A module without the attribute is unchanged, byte for byte.
        assert_eq!(none, strip(&none, None, &keep).unwrap());
    }
}

#[test]
fn an_attribute_with_an_unsupported_value_is_skipped() {
    let dir = peer::scratch();
    let [one, ..] = compile_modules(dir.path());
    let beam = Beam::read(&one).unwrap();
    let attributes = beam.attributes().unwrap();
    assert_eq!(beam.behaviours().unwrap(), ["Elixir.Access"]);
    assert_eq!(attributes["external_resource"].len(), 2);
    assert_eq!(beam.vsn().unwrap().len(), 1);
    assert!(matches!(beam.vsn().unwrap()[0], Term::Big(..) | Term::Int(_)));
    assert_eq!(attributes["kept"].len(), 1);
    // The value of this attribute is a function.
    assert_eq!(attributes.get("called"), None);
    assert!(decode(beam.chunk(b"Attr").unwrap()).is_err());
}

/// Encodes chunks as a `.beam` file.
fn beam_file(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut body = b"BEAM".to_vec();
    for (name, bytes) in chunks {
        body.extend(*name);
        body.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
        body.extend(*bytes);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    [b"FOR1", &u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat()
}

const ATOMS: (&[u8; 4], &[u8]) = (b"AtU8", b"\0\0\0\x01\x01a");

#[test]
fn invalid_modules_are_refused_with_a_reason() {
    let whole = beam_file(&[ATOMS, (b"Code", b"code")]);
    let rule = StripRule::for_rules(&ReleaseRules::Otp, &[], false).drop_external_resources(true);
    let error = |module: &[u8], name: &[u8]| strip(module, Some(name), &rule).unwrap_err().to_string();
    assert_eq!(strip(&whole, Some(b"a"), &rule).unwrap(), whole);
    assert_eq!(error(b"", b"a"), "it does not begin with `FOR1`, a length and `BEAM`");
    assert_eq!(error(&whole[..20], b"a"), "it says that it has 32 bytes, and has 12");
    let mut long = whole.clone();
    long[4..8].fill(0xff);
    assert_eq!(error(&long, b"a"), "it says that it has 4294967295 bytes, and has 32");
    let mut beyond = whole.clone();
    beyond[16..20].copy_from_slice(&[0, 0, 1, 0]);
    assert_eq!(error(&beyond, b"a"), "its chunk `AtU8` reaches beyond its end");
    assert_eq!(error(&beam_file(&[ATOMS]), b"a"), "it has no chunk `Code`");
    assert_eq!(error(&beam_file(&[(b"Code", b"")]), b"a"), "it has no chunk `AtU8`");
    assert_eq!(error(&whole, b"b"), "it is the module `a`, and not `b`");
    for atoms in [&b""[..], b"\0\0\0\x01", b"\0\0\0\x01\x05a", b"\0\0\0\0", b"\0\0\0\x01\0", b"\xff\xff\xff\xff\x1f"] {
        let module = beam_file(&[(b"AtU8", atoms), (b"Code", b"")]);
        assert_eq!(error(&module, b"a"), "its atoms cannot be read", "{atoms:?}");
    }
    for attributes in [&b""[..], b"\x83", b"\x83a\x01", b"\x83l\0\0\0\x05j", b"\x83jj", b"\x83P\xff\xff\xff\xffx"] {
        let module = beam_file(&[ATOMS, (b"Code", b""), (b"Attr", attributes)]);
        assert_eq!(error(&module, b"a"), "its chunk `Attr` cannot be read", "{attributes:?}");
    }
    let tables: [&[u8]; 4] =
        [b"", b"\0\0\0\x01\0", b"\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0\0", b"\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0"];
    for table in tables {
        let module = beam_file(&[ATOMS, (b"Code", b""), (b"ExpT", table), (b"ImpT", table)]);
        let beam = Beam::read(&module).unwrap();
        assert_eq!(beam.exports(), Err(BeamError::Unreadable("ExpT")), "{table:?}");
        assert_eq!(beam.imports(), Err(BeamError::Unreadable("ImpT")), "{table:?}");
    }
}

#[test]
fn trailing_bytes_are_dropped_and_unknown_chunks_are_kept() {
    let unknown: Vec<(&[u8; 4], &[u8])> = vec![(b"Zzzz", b"?"); 10_000];
    let module = beam_file(&[&[ATOMS, (b"Code", b"code")], &unknown[..]].concat());
    let rule = StripRule::for_rules(&ReleaseRules::Otp, &[], false);
    let behind = [&module, &b"behind"[..]].concat();
    assert_eq!(strip(&behind, Some(b"a"), &rule).unwrap(), module);
    let stripped = strip(&module, None, &StripRule::for_rules(&ReleaseRules::mix("1.18.0"), &[], false)).unwrap();
    assert_eq!(Beam::read(&stripped).unwrap().chunks().len(), 2);
    let many: Vec<(&[u8; 4], &[u8])> = vec![(b"Zzzz", b""); 70_000];
    let module = beam_file(&[&[ATOMS, (b"Code", b"code")], &many[..]].concat());
    assert_eq!(strip(&module, None, &rule), Err(BeamError::TooManyChunks));
    // The size in the header of the `LitT` chunk is not used, and the chunk is not decompressed.
    let literals = beam_file(&[ATOMS, (b"Code", b""), (b"LitT", b"\xff\xff\xff\xffx")]);
    assert_eq!(strip(&literals, None, &rule).unwrap(), literals);
}

#[test]
fn atoms_of_otp_28_are_read() {
    // The count is negative, and lengths are encoded like instruction arguments, in four or eleven bits.
    let long = "é".repeat(60);
    let table = [&b"\xff\xff\xff\xfd\x10a\x20bc\x08\x78"[..], long.as_bytes()].concat();
    let export = [3_u32, 2, 1].map(u32::to_be_bytes).concat();
    let module = beam_file(&[(b"AtU8", &table), (b"Code", b""), (b"ExpT", &[&[0, 0, 0, 1][..], &export].concat())]);
    let beam = Beam::read(&module).unwrap();
    assert_eq!(beam.module().unwrap(), b"a");
    let exports = beam.exports().unwrap();
    let export = exports.first().unwrap();
    assert_eq!((export.name.as_str(), export.arity), (long.as_str(), 2));
}
