//! Run folders that are not for this run: refused in one sentence, and left as they were.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[expect(dead_code, reason = "other tests use the rest")]
mod place;
mod refusal;
#[expect(dead_code, reason = "other tests use the rest")]
mod tiny;

use place::Place;
use refusal::assert_refused;
use tiny::Kept;
use trainer::savepoint::SavePolicy;
use trainer::sft;

#[test]
fn a_run_folder_that_is_not_for_this_run_is_refused_untouched() {
    let place = Place::new();
    let run = |place: &Place, out: &str, resume: bool| {
        let mut job = place.sft(out);
        job.saving = SavePolicy {
            resume,
            ..SavePolicy::default()
        };
        sft::run(&job, &mut Kept::default())
    };
    std::fs::write(place.path("file"), "x").unwrap();
    for out in ["file", "file/out"] {
        assert_refused(&place, &["/file"], |place| run(place, out, false));
    }
    let folder = |name: &str| {
        std::fs::create_dir(place.path(name)).unwrap();
        place.path(name)
    };
    std::fs::write(folder("full").join("thesis.txt"), "x").unwrap();
    std::fs::create_dir(folder("full2").join("photos")).unwrap();
    for out in ["full", "full2"] {
        assert_refused(&place, &[out, "is not empty"], |place| {
            run(place, out, false)
        });
    }
    std::fs::write(folder("model").join("config.json"), "{}").unwrap();
    assert_refused(
        &place,
        &["model", "holds a run or a model already"],
        |place| run(place, "model", false),
    );
    let elsewhere = folder("elsewhere");
    std::os::unix::fs::symlink(&elsewhere, place.path("link")).unwrap();
    std::os::unix::fs::symlink(place.path("nowhere"), place.path("dangling")).unwrap();
    let notes = elsewhere.join("notes.txt");
    std::fs::write(&notes, "mine").unwrap();
    let links = [
        ("metrics.jsonl", &notes),
        ("run.lock", &notes),
        ("config.json", &notes),
        ("savepoints", &elsewhere),
        ("checkpoint", &elsewhere),
        ("events.out.tfevents.1.plackett.0", &notes),
    ];
    for (index, (name, target)) in links.into_iter().enumerate() {
        let own = folder(&format!("own{index}"));
        std::os::unix::fs::symlink(target, own.join(name)).unwrap();
    }
    for resume in [false, true] {
        for out in ["link", "dangling"] {
            assert_refused(&place, &[out, "is a link"], |place| run(place, out, resume));
        }
        for index in 0..links.len() {
            let out = format!("own{index}");
            assert_refused(&place, &[&out], |place| run(place, &out, resume));
        }
    }
    assert_refused(&place, &["/proc/plackett"], |place| {
        let mut job = place.sft("out");
        job.out = "/proc/plackett/out".into();
        sft::run(&job, &mut Kept::default())
    });
    if nix::unistd::geteuid().is_root() {
        println!("not shown as root, who may write anywhere: a folder without that right");
    } else {
        use std::os::unix::fs::PermissionsExt;
        let right = std::fs::Permissions::from_mode(0o555);
        std::fs::set_permissions(folder("closed"), right).unwrap();
        assert_refused(&place, &["closed", "ermission denied"], |place| {
            run(place, "closed/out", false)
        });
    }
    // What a worker puts there before the run begins is no obstacle.
    let data = place.path("demonstrations.jsonl");
    std::fs::copy(data, folder("worker").join("data.jsonl")).unwrap();
    std::fs::write(place.path("worker/run.lock"), "").unwrap();
    run(&place, "worker", false).unwrap();
}
