//! Appups generated from differences between compiled modules.

use std::fs;
use std::path::Path;
use std::process::Command;

use dram_release::appup::{BeamFiles, generate_appup, modules_differ, restart_appup};
use dram_release::term::Term;

use crate::peer::scratch;

/// Compiles the sources, given by module name, with these options of `erlc`.
fn compile(sources: &[(&str, &str)], options: &[&str]) -> BeamFiles {
    let dir = scratch();
    for (name, text) in sources {
        fs::write(dir.path().join(format!("{name}.erl")), format!("-module({name}).\n{text}\n")).unwrap();
    }
    let files = sources.iter().map(|(name, _)| format!("{name}.erl"));
    let output = Command::new("erlc").args(options).args(files).current_dir(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let read = |(name, _): &(&str, &str)| ((*name).to_owned(), read(&dir.path().join(format!("{name}.beam"))));
    sources.iter().map(read).collect()
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}

fn up_and_down(old: &[(&str, &str)], new: &[(&str, &str)]) -> [String; 2] {
    let appup = generate_appup("1.0", "2.0", &compile(old, &[]), &compile(new, &["+debug_info"])).unwrap();
    assert!(appup.is_for_version("2.0") && appup.covers_version("1.0"));
    let [_, up, down] = appup.term().as_tuple().unwrap() else { panic!("{}", appup.text()) };
    [up, down].map(|way| {
        let script = way.as_list().unwrap()[0].as_tuple().unwrap()[1].as_list().unwrap();
        script.iter().map(Term::to_string).collect::<Vec<_>>().join(" ")
    })
}

const SERVER: &str = "-behaviour(gen_server).\n-export([init/1,handle_call/3,handle_cast/2,code_change/3]).\n\
                      init(X) -> {ok,X}.\nhandle_call(X,_,S) -> {reply,X,S}.\nhandle_cast(_,S) -> {noreply,S}.\n";

#[test]
fn added_deleted_and_changed_modules_get_their_instructions() {
    let server = |text: &str| format!("{SERVER}code_change(_,S,_) -> {text}.");
    let [one, other] = [server("{ok,S}"), server("{ok,{S,lib:f()}}")];
    let supervisor = "-behaviour(supervisor).\n-export([init/1]).\ninit(_) -> {ok,{{one_for_one,";
    let [few, many] = [format!("{supervisor}1,1}},[]}}}}."), format!("{supervisor}9,1}},[]}}}}.")];
    let special = "-export([system_code_change/4]).\nsystem_code_change(S,_,_,_) -> {ok,";
    let [plain, more] = [format!("{special}S}}."), format!("{special}{{S}}}}.")];
    let old = [
        ("gone", ""),
        ("same", "-export([f/0]).\nf() -> 1."),
        ("lib", "-export([f/0]).\nf() -> 1."),
        ("server", &one),
        ("special", &plain),
        ("sup", &few),
    ];
    let new = [
        ("added", ""),
        ("same", "-export([f/0]).\nf() -> 1."),
        ("lib", "-export([f/0]).\nf() -> lists:max([2, 1])."),
        ("server", &other),
        ("special", &more),
        ("sup", &many),
    ];
    let changes = "{load_module,lib} {update,special,{advanced,[]}} {update,sup,supervisor} \
                   {update,server,{advanced,[]},[lib]}";
    let [up, down] = up_and_down(&old, &new);
    assert_eq!(up, format!("{{add_module,added}} {changes} {{delete_module,gone}}"));
    assert_eq!(down, format!("{{add_module,gone}} {changes} {{delete_module,added}}"));
}

#[test]
fn a_module_comes_after_those_that_it_calls_and_cycles_terminate() {
    let calls = |on: &[&str], value: u32| {
        let calls: String = on.iter().map(|on| format!("{on}:f(),")).collect();
        format!("-export([f/0]).\nf() -> {calls}{value}.")
    };
    let modules = |value| {
        let graph = [("a", vec!["b", "c"]), ("b", vec!["c", "d"]), ("c", vec!["d"]), ("d", vec![]), ("x", vec!["y"])];
        let more = [("y", vec!["x", "x"]), ("z", vec!["z", "lists"])];
        graph.into_iter().chain(more).map(|(name, on)| (name, calls(&on, value))).collect::<Vec<_>>()
    };
    let (old, new) = (modules(1), modules(2));
    let borrow = |all: &'static [(&'static str, String)]| -> Vec<(&'static str, &'static str)> {
        all.iter().map(|(name, text)| (*name, text.as_str())).collect()
    };
    let [up, down] = up_and_down(&borrow(old.leak()), &borrow(new.leak()));
    let expected = "{load_module,d} {load_module,c,[d]} {load_module,b,[c,d]} {load_module,a,[b,c]} \
                    {load_module,z} {load_module,x,[y]} {load_module,y,[x]}";
    let words = |text: &str| {
        let mut words: Vec<_> = text.split(' ').map(str::to_owned).collect();
        words.sort();
        words
    };
    assert_eq!(words(&up), words(expected));
    assert_eq!(up, down);
    let at = |name: &str| up.find(&format!("{{load_module,{name}")).unwrap();
    assert!(at("d") < at("c") && at("c") < at("b") && at("b") < at("a"), "{up}");
}

#[test]
fn compiler_options_and_debug_info_are_no_change() {
    let source = [("m", "-export([f/0]).\nf() -> 1.")];
    let plain = &compile(&source, &[])["m"];
    for options in [&["+debug_info"][..], &["+compressed"], &["+debug_info", "+compressed", "+deterministic"]] {
        assert_eq!(modules_differ(plain, &compile(&source, options)["m"]), Ok(false), "{options:?}");
    }
    let attribute = [("m", "-export([f/0]).\n-mine(1).\nf() -> 1.")];
    assert_eq!(modules_differ(plain, &compile(&attribute, &[])["m"]), Ok(true));
    assert!(modules_differ(plain, b"nothing").is_err());
}

#[test]
fn base_applications_restart_the_emulator() {
    let text = restart_appup("1", "2").text();
    assert!(text.contains("{\"2\",[{\"1\",[restart_new_emulator]}],[{\"1\",[restart_new_emulator]}]}"), "{text}");
}
