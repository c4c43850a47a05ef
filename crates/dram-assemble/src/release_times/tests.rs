use super::*;
use crate::test_project::{TestProject, put_disk, tree_path};

#[test]
fn files_of_the_project_keep_their_times_and_all_others_have_the_common_time() {
    let project = TestProject::new();
    let base = fs::canonicalize(project.path("")).unwrap();
    let own = OwnFiles { project: base.join("p"), excluded: vec![base.join("p/_build"), base.join("p/deps")] };
    let mut tree = ReleaseTree::default();
    let sources = ["p/priv/app.css", "p/_build/prod/lib/shop/a", "p/deps/dep/priv/b", "pq/priv/c", "to/step"];
    for (index, source) in sources.iter().enumerate() {
        let at = source.strip_prefix("to/").unwrap_or(source);
        for file in [(*source).to_owned(), format!("to/{at}")] {
            project.write(&file, "x");
            set_time(&base.join(&file), 1_234_567_890 + i64::try_from(index).unwrap()).unwrap();
        }
        put_disk(&mut tree, at, &base.join(source), 0o644);
    }
    tree.put_text(tree_path("made"), "x");
    project.write("to/made", "x");
    project.link("made", "to/link");
    tree.put(tree_path("link"), ReleaseEntry::Link(b"made".to_vec()));
    let times = |times: ReleaseTimes| {
        times.apply(&tree, &base.join("to"), &own, None).unwrap();
        let time = |path: &str| fs::symlink_metadata(base.join("to").join(path)).unwrap().mtime();
        [sources[0], sources[1], sources[2], sources[3], "step", "made", "link", "p", ""].map(time)
    };
    let (kept, step) = (1_234_567_890, 1_234_567_894);
    let all = EARLIEST;
    assert_eq!(times(ReleaseTimes::Own), [kept, all, all, all, step, all, all, all, all]);
    assert_eq!(times(ReleaseTimes::Same(99)), [99; 9]);
}
