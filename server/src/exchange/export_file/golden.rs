//! What the formats make of rows that never change, to the byte.

use futures_util::stream;
use sqlx::types::Json;
use uuid::Uuid;

use super::*;
use crate::domain::export::{Aggregation, ExportFormat, Margin, REVISION};
use crate::domain::ids::{ProjectId, SnapshotId};
use crate::domain::snapshot::SnapshotKind;
use crate::domain::snapshot_filters::{Filters, LeftOut};
use crate::exchange::rows::fixtures;

/// The revision, and by kind and format the beginning of the SHA-256 of everything that it writes of the fixtures.
///
/// Where one of them changes and `REVISION` does not, the same export has other bytes than it had, and a download
/// that goes on in its middle is spoilt: raise `REVISION`, and write down here what the test says. A format that is
/// new takes a line and leaves the revision as it is.
const GOLDEN: (i16, [&str; 13]) = (
    1,
    [
        "rankings rankings c5338e765ef62848",
        "rankings trl 61cf6c5682c5f2b0",
        "rankings trl-implicit ed0a0b701b6f579c",
        "rankings trl-unpaired 523f38b255d13c11",
        "rankings nectar 95d51c008cefaec2",
        "rankings hh d07b2f0fbf6e3c32",
        "rankings summarize 1f22902256a69c85",
        "demonstrations demonstrations 2a0881f15a1dacb2",
        "demonstrations alpaca 223092897e7c3161",
        "demonstrations sharegpt 21f3db949852ac19",
        "prompts prompts 369c57e65aa9ae60",
        "prompts trl 43701e7277e65de4",
        "texts texts 4774c993761b21e0",
    ],
);

/// The newest format of lines, and those before, whose tables have fewer columns.
const LINE_FORMATS: [i16; 5] = [1, 2, 3, 4, 5];

#[tokio::test]
async fn the_same_rows_have_the_bytes_of_this_revision() -> anyhow::Result<()> {
    let mut found = Vec::new();
    for kind in SnapshotKind::ALL {
        for format in ExportFormat::of(kind) {
            let mut sums = Sha256::new();
            for choice in choices(*format) {
                for line_format in LINE_FORMATS {
                    sums.update(sum_of(&snapshot(kind, line_format), &choice).await?);
                }
            }
            let sum = hex::encode(sums.finalize());
            found.push(format!("{kind} {} {}", format.word(kind), &sum[..16]));
        }
    }
    let (revision, golden) = GOLDEN;
    let golden: Vec<String> = golden.map(str::to_owned).into();
    assert_eq!((REVISION, found), (revision, golden));
    Ok(())
}

/// Every choice with a format.
fn choices(format: ExportFormat) -> Vec<ExportChoice> {
    let mut choices = Vec::new();
    for container in Container::ALL {
        for margin in Margin::ALL {
            for aggregation in Aggregation::ALL {
                choices.push(ExportChoice {
                    format,
                    container: *container,
                    margin: *margin,
                    aggregation: *aggregation,
                });
            }
        }
    }
    choices
}

async fn sum_of(snapshot: &Snapshot, choice: &ExportChoice) -> anyhow::Result<String> {
    let records = fixtures::records(snapshot.parsed_kind()?, choice.aggregation);
    for split in SPLITS {
        let is_there = records.iter().any(|record| record.split() == split);
        assert!(is_there, "no record of {} is in {split}", snapshot.kind);
    }
    let records = pin!(stream::iter(records.into_iter().map(Ok)));
    let out = HashingWriter::new(std::io::sink());
    let (_, out) = write(snapshot, choice, records, out, &mut |_| ()).await?;
    Ok(out.finish()?.2)
}

fn snapshot(kind: SnapshotKind, line_format: i16) -> Snapshot {
    Snapshot {
        id: SnapshotId(Uuid::from_u128(1)),
        project_id: ProjectId(Uuid::from_u128(2)),
        project_slug: "demo".to_owned(),
        kind: kind.as_str().to_owned(),
        name: "May".to_owned(),
        includes_simulated: true,
        labels: "all".to_owned(),
        reviewed_categories: false,
        includes_personal: true,
        n_left_out: 0,
        filters: Json(Filters::default()),
        left_out: Json(LeftOut::default()),
        n_items: 4,
        n_prompts: 2,
        line_format,
        sha256: "0".repeat(64),
        created_at: chrono::DateTime::UNIX_EPOCH,
        created_by: None,
    }
}
