use super::*;
use crate::test_project::{TestProject, mode_of, paths, tree_path};

fn collect(project: &TestProject) -> Result<(ReleaseTree, Vec<PathBuf>), AssembleError> {
    let mut tree = ReleaseTree::default();
    let dangling = collect_dir(&mut tree, &project.path("project"), &tree_path("at"), &CollectOptions::OWN)?;
    Ok((tree, dangling))
}

fn link_of(tree: &ReleaseTree, path: &str) -> Option<String> {
    match tree.get(&tree_path(path)) {
        Some(ReleaseEntry::Link(to)) => Some(String::from_utf8(to.clone()).unwrap()),
        Some(ReleaseEntry::Dir | ReleaseEntry::File { .. }) | None => None,
    }
}

#[test]
fn empty_directories_are_entries_and_others_are_implied() {
    let project = TestProject::new();
    project.write("project/a/file", "");
    fs::create_dir(project.path("project/empty")).unwrap();
    assert_eq!(paths(&collect(&project).unwrap().0), ["at/a/file", "at/empty"]);
}

#[test]
fn links_inside_stay_links_and_links_outside_become_what_they_lead_to() {
    let project = TestProject::new();
    project.write("project/a/file", "");
    project.write("outside/dir/inner", "");
    project.link("file", "project/a/beside");
    project.link("../a", "project/b/up");
    project.link("../../outside/dir", "project/b/out");
    project.link(project.path("outside/dir/inner").to_str().unwrap(), "project/absolute");
    project.link(project.path("project/a/file").to_str().unwrap(), "project/absolute_inside");
    let (tree, dangling) = collect(&project).unwrap();
    assert_eq!(link_of(&tree, "at/a/beside").as_deref(), Some("file"));
    assert_eq!(link_of(&tree, "at/b/up").as_deref(), Some("../a"));
    assert!(mode_of(&tree, "at/b/out/inner").is_some(), "{:?}", paths(&tree));
    assert!(mode_of(&tree, "at/absolute").is_some() && mode_of(&tree, "at/absolute_inside").is_some());
    assert_eq!(dangling, [""; 0].map(PathBuf::from));
}

#[test]
fn broken_links_are_kept_and_returned() {
    let project = TestProject::new();
    project.link("nowhere", "project/broken");
    project.link("itself", "project/itself");
    let (tree, mut dangling) = collect(&project).unwrap();
    dangling.sort();
    assert_eq!(link_of(&tree, "at/broken").as_deref(), Some("nowhere"));
    let root = fs::canonicalize(project.path("project")).unwrap();
    assert_eq!(dangling, [root.join("broken"), root.join("itself")]);
}

#[test]
fn a_link_to_a_directory_above_is_not_followed() {
    let project = TestProject::new();
    project.link("../..", "project/a/up");
    let (tree, dangling) = collect(&project).unwrap();
    assert_eq!((link_of(&tree, "at/a/up").as_deref(), dangling.len()), (Some("../.."), 1));
}

#[test]
fn links_that_lead_into_each_other_are_refused_at_the_deepest_directory() {
    let project = TestProject::new();
    // Each of the two directories lies outside of the other, so both links would be followed without end.
    project.link("../two", "one/a");
    project.link("../one", "two/b");
    project.link("../one", "project/in");
    let error = collect(&project).unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("is there a loop?"), "{error}");
}

#[test]
fn a_socket_is_refused_with_its_path() {
    let project = TestProject::new();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        project.path("project/pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let error = collect(&project).unwrap_err().to_string();
    assert!(error.starts_with("cannot take `") && error.ends_with("project/pipe`"), "{error}");
}

#[test]
fn relative_links_are_judged_by_their_text() {
    let (root, file) = (Path::new("/r"), Path::new("/r/a/b"));
    for (to, stays) in
        [("c", true), ("../c", true), ("../../c", false), ("../../r/c", false), ("./c/../../d", true), ("/r/c", false)]
    {
        assert_eq!(stays_below(root, file, Path::new(to)), stays, "{to}");
    }
    assert!(!stays_below(root, Path::new("/other/b"), Path::new("c")));
}

#[test]
fn modules_are_stripped_by_their_extension() {
    let project = TestProject::new();
    project.write("project/m.beam", "");
    project.write("project/m.app", "");
    project.write("outside/text", "");
    project.link("m.app", "project/inside.beam");
    project.link("../outside/text", "project/outside.beam");
    project.link("nowhere", "project/broken.beam");
    let strip = StripRule::for_rules(&dram_release::resolve::ReleaseRules::Otp, &[], false);
    let options = CollectOptions { strip: Some(Arc::new(strip)), ..CollectOptions::BUILT };
    let mut tree = ReleaseTree::default();
    collect_dir(&mut tree, &project.path("project"), &tree_path("at"), &options).unwrap();
    let is_beam = |path: &str| {
        matches!(tree.get(&tree_path(path)), Some(ReleaseEntry::File { content: ReleaseFileContent::Beam(..), .. }))
    };
    assert!(is_beam("at/m.beam") && !is_beam("at/m.app"));
    // A link has the name by which the module is loaded, so the file is checked under that name.
    assert!(is_beam("at/inside.beam") && is_beam("at/outside.beam") && !is_beam("at/broken.beam"));
}
