//! What a registry can do to whoever pushes.

use super::fake::{Fault, On, Seen, What};
use super::row::{count, hold, offer, push};

fn always(on: On, what: What) -> [Fault; 1] {
    [Fault::always(on, what)]
}

fn first(times: usize, on: On, what: What) -> [Fault; 1] {
    [Fault::first(times, on, what)]
}

#[test]
fn uploads_arrive_or_are_told() {
    let began = |seen: &[Seen]| count(seen, "POST", "/uploads/");
    hold([
        push("none", []).asks("each blob once", move |seen| began(seen) == offer().blobs.len()),
        push("upload-loc-other", always(On::Start, What::UploadsElsewhere)).either(),
        push("upload-loc-query", always(On::Any, What::UploadsWithQuery)),
        push("upload-404", first(1, On::Bytes, What::NoUpload)),
        push("upload-404 always", always(On::Bytes, What::NoUpload)).bad(["404", "{host}"]),
        push("upload-416", first(1, On::Bytes, What::HalfTaken)),
        push("upload-lying-201", always(On::Put, What::Lies)).bad(["{host}"]),
        push("upload-lying-201 once", first(1, On::Put, What::Lies)),
        push("upload-mount-202", always(On::Start, What::NoMount)),
        push("upload-507", always(On::Put, What::Status(507, "the shelf is full"))).bad([
            "507",
            "the shelf is full",
            "{host}",
        ]),
        push("upload 500 twice", first(2, On::Put, What::Status(500, ""))),
        push("upload 403", always(On::Start, What::Status(403, "only for readers")))
            .bad(["403", "only for readers", "{host}"])
            .asks("not again and again", |seen| seen.len() < 12),
        push("upload without a place", always(On::Start, What::Header("Location", None))).bad(["{host}"]),
        push("upload to a file", always(On::Start, What::Header("Location", Some("file:///etc/passwd"))))
            .bad(["{host}"]),
    ]);
}

#[test]
fn manifests_are_kept_or_it_is_told() {
    let other = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    hold([
        push("head-lies", always(On::BlobHead, What::HasAll(offer().sizes()))),
        push("manifest-put-500", first(2, On::ManifestPut, What::Status(500, ""))),
        push("manifest-put-500 always", always(On::ManifestPut, What::Status(500, "no"))).bad(["500", "{host}"]),
        push("manifest-put-201-other", always(On::ManifestPut, What::Header("Docker-Content-Digest", Some(other))))
            .bad([other, "{host}"]),
        push("manifest-put-400", always(On::ManifestPut, What::Status(400, "not to our taste"))).bad([
            "400",
            "not to our taste",
            "{host}",
        ]),
    ]);
}
