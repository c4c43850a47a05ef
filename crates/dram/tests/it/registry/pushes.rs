//! Faults of a registry during pushes.

use super::fake::{Fault, FaultPoint, Misbehaviour, RecordedRequest};
use super::scenario::{assert_scenarios, count, push, test_image};

fn always(on: FaultPoint, what: Misbehaviour) -> [Fault; 1] {
    [Fault::always(on, what)]
}

fn first(times: usize, on: FaultPoint, what: Misbehaviour) -> [Fault; 1] {
    [Fault::first(times, on, what)]
}

#[test]
fn uploads_succeed_or_fail_with_an_error() {
    let began = |seen: &[RecordedRequest]| count(seen, "POST", "/uploads/");
    assert_scenarios([
        push("none", []).requests_satisfy("each blob once", move |seen| began(seen) == test_image().blobs.len()),
        push("upload-loc-other", always(FaultPoint::StartUpload, Misbehaviour::UploadsElsewhere)).may_fail(),
        push("upload-loc-query", always(FaultPoint::Any, Misbehaviour::UploadsWithQuery)),
        push("upload-404", first(1, FaultPoint::UploadBytes, Misbehaviour::NoUpload)),
        push("upload-404 always", always(FaultPoint::UploadBytes, Misbehaviour::NoUpload))
            .fails_with(["404", "{host}"]),
        push("upload-416", first(1, FaultPoint::UploadBytes, Misbehaviour::HalfTaken)),
        push("upload-lying-201", always(FaultPoint::FinishUpload, Misbehaviour::FalseSuccess)).fails_with(["{host}"]),
        push("upload-lying-201 once", first(1, FaultPoint::FinishUpload, Misbehaviour::FalseSuccess)),
        push("upload-mount-202", always(FaultPoint::StartUpload, Misbehaviour::NoMount)),
        push("upload-507", always(FaultPoint::FinishUpload, Misbehaviour::Status(507, "the shelf is full")))
            .fails_with(["507", "the shelf is full", "{host}"]),
        push("upload 500 twice", first(2, FaultPoint::FinishUpload, Misbehaviour::Status(500, ""))),
        push("upload 403", always(FaultPoint::StartUpload, Misbehaviour::Status(403, "only for readers")))
            .fails_with(["403", "only for readers", "{host}"])
            .requests_satisfy("not again and again", |seen| seen.len() < 12),
        push("upload without a place", always(FaultPoint::StartUpload, Misbehaviour::Header("Location", None)))
            .fails_with(["{host}"]),
        push(
            "upload to a file",
            always(FaultPoint::StartUpload, Misbehaviour::Header("Location", Some("file:///etc/passwd"))),
        )
        .fails_with(["{host}"]),
    ]);
}

#[test]
fn manifest_uploads_succeed_or_fail_with_an_error() {
    let other = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    assert_scenarios([
        push("head-lies", always(FaultPoint::BlobHead, Misbehaviour::ClaimsBlobs(test_image().sizes()))),
        push("manifest-put-500", first(2, FaultPoint::ManifestPut, Misbehaviour::Status(500, ""))),
        push("manifest-put-500 always", always(FaultPoint::ManifestPut, Misbehaviour::Status(500, "no")))
            .fails_with(["500", "{host}"]),
        push(
            "manifest-put-201-other",
            always(FaultPoint::ManifestPut, Misbehaviour::Header("Docker-Content-Digest", Some(other))),
        )
        .fails_with([other, "{host}"]),
        push("manifest-put-400", always(FaultPoint::ManifestPut, Misbehaviour::Status(400, "not to our taste")))
            .fails_with(["400", "not to our taste", "{host}"]),
    ]);
}
