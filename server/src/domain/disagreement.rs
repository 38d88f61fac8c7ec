//! Which task next, where labels teach most: how far reward models disagree on a task's candidates, and the
//! order of the queue that follows from it.

use sha2::{Digest, Sha256};

use crate::domain::ids::{ProjectId, TaskId};
use crate::domain::task::ChosenBy;

/// How far the members of an ensemble disagree over the order of candidates: the mean, over pairs of
/// candidates i < j, of the variance across members of sigmoid(r_i - r_j), which is each member's probability
/// that i is preferred (Bradley-Terry, as the reward loss has it). 0 where all say the same, at most 1/4.
/// Where a member puts zero does not count. `members` holds for each member one score of each candidate; none
/// with fewer than two members or candidates.
pub fn disagreement(members: &[Vec<f64>]) -> Option<f64> {
    let n = members.iter().map(Vec::len).min()?;
    if members.len() < 2 || n < 2 {
        return None;
    }
    let mut sum = 0.0;
    for i in 0..n {
        for j in i + 1..n {
            let chances = members.iter().map(|scores| sigmoid(scores[i] - scores[j]));
            sum += variance(&chances.collect::<Vec<f64>>());
        }
    }
    let mean = sum / (n * (n - 1) / 2) as f64;
    mean.is_finite().then_some(mean)
}

fn sigmoid(difference: f64) -> f64 {
    1.0 / (1.0 + (-difference).exp())
}

/// The variance of all of them, not of a sample.
fn variance(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    values
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>()
        / n
}

/// A number drawn for a task once and for all, uniform in 0 to 1: from the project, the task and what it is
/// drawn for alone, so that measuring again does not draw again.
fn draw(project_id: ProjectId, id: TaskId, what: &str) -> f64 {
    let mut hash = Sha256::new();
    hash.update(project_id.0);
    hash.update(id.0);
    hash.update(what);
    let digest = hash.finalize();
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    // The 53 bits that a float has.
    (u64::from_be_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64
}

/// The order of measured tasks, first to last, and why each stands there: those with the largest disagreement
/// first, but for the share that is drawn at random for evaluation whatever reward models say of it, which
/// comes in an order of its own draw, spread evenly through the others. Rewards measured on that share alone
/// are those of any prompt, and not of the doubtful ones.
pub fn order(
    project_id: ProjectId,
    tasks: &[(TaskId, f64)],
    evaluation_share: f64,
) -> Vec<(TaskId, ChosenBy)> {
    let is_drawn = |id: &TaskId| draw(project_id, *id, "evaluation") < evaluation_share;
    let (mut drawn, mut chosen): (Vec<_>, Vec<_>) =
        tasks.iter().copied().partition(|(id, _)| is_drawn(id));
    // Ties by the draw, so that neither age nor a file's order decides.
    let place = |id: &TaskId| draw(project_id, *id, "place");
    drawn.sort_by(|a, b| place(&a.0).total_cmp(&place(&b.0)));
    chosen.sort_by(|a, b| {
        let by_disagreement = b.1.total_cmp(&a.1);
        by_disagreement.then_with(|| place(&a.0).total_cmp(&place(&b.0)))
    });
    let spread = |own: Vec<(TaskId, f64)>, why: ChosenBy| {
        let n = own.len() as f64;
        own.into_iter()
            .enumerate()
            .map(move |(index, (id, _))| ((index as f64 + 0.5) / n, id, why))
    };
    let mut all: Vec<_> = spread(drawn, ChosenBy::Evaluation)
        .chain(spread(chosen, ChosenBy::Informative))
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all.into_iter().map(|(_, id, why)| (id, why)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disagreement_is_the_mean_variance_of_the_chance_to_be_preferred() {
        // One pair; chances sigmoid(ln 3) = 3/4 and sigmoid(-ln 3) = 1/4: mean 1/2, variance 1/16.
        let ln3 = 3.0_f64.ln();
        let found = disagreement(&[vec![ln3, 0.0], vec![0.0, ln3]]);
        assert!(
            found.is_some_and(|found| (found - 1.0 / 16.0).abs() < 1e-12),
            "{found:?}"
        );
        // Three candidates, of which only the pairs with the last are in doubt: two of three pairs.
        let found = disagreement(&[vec![0.0, 0.0, ln3], vec![0.0, 0.0, -ln3]]);
        assert!(
            found.is_some_and(|found| (found - 2.0 / 3.0 / 16.0).abs() < 1e-12),
            "{found:?}"
        );
        // Where a member puts zero is no disagreement.
        let same = disagreement(&[vec![1.0, 0.0, 4.0], vec![8.0, 7.0, 11.0]]);
        assert!(same.is_some_and(|found| found < 1e-12));
        // As far as two can be apart.
        let apart = disagreement(&[vec![80.0, 0.0], vec![0.0, 80.0]]);
        assert!(apart.is_some_and(|found| (found - 0.25).abs() < 1e-12));
        assert_eq!(disagreement(&[vec![1.0, 2.0]]), None);
        assert_eq!(disagreement(&[vec![1.0], vec![2.0]]), None);
        assert_eq!(disagreement(&[]), None);
        assert_eq!(disagreement(&[vec![f64::NAN, 0.0], vec![0.0, 1.0]]), None);
    }

    fn tasks(n: usize) -> Vec<(TaskId, f64)> {
        let measured = |index: usize| (TaskId::new(), ((index * 37) % 101) as f64 / 404.0);
        (0..n).map(measured).collect()
    }

    #[test]
    fn the_most_doubtful_come_first_and_the_share_for_evaluation_is_spread_through_them() {
        let project = ProjectId::new();
        let tasks = tasks(1000);
        let found = order(project, &tasks, 0.2);
        assert_eq!(found.len(), 1000);
        let of = |id: &TaskId| {
            let measured = tasks.iter().find(|(own, _)| own == id);
            measured.map_or(f64::NAN, |(_, value)| *value)
        };
        let chosen: Vec<f64> = found
            .iter()
            .filter(|(_, why)| *why == ChosenBy::Informative)
            .map(|(id, _)| of(id))
            .collect();
        assert!(chosen.is_sorted_by(|a, b| a >= b));
        let drawn: Vec<usize> = (0..1000)
            .filter(|index| found[*index].1 == ChosenBy::Evaluation)
            .collect();
        // A fifth, within four deviations of the binomial (12.6).
        assert!((150..=250).contains(&drawn.len()), "{}", drawn.len());
        // Spread evenly: in every stretch of a hundred about as many.
        for start in (0..1000).step_by(100) {
            let n = drawn
                .iter()
                .filter(|index| (start..start + 100).contains(*index))
                .count();
            let expected = drawn.len() as f64 / 10.0;
            assert!(
                (n as f64 - expected).abs() <= 1.0,
                "{n} of {expected} from {start}"
            );
        }
        // Drawn whatever reward models say: their mean is that of all.
        let mean = |ids: &mut dyn Iterator<Item = f64>| {
            let all: Vec<f64> = ids.collect();
            all.iter().sum::<f64>() / all.len() as f64
        };
        let of_drawn = mean(&mut drawn.iter().map(|index| of(&found[*index].0)));
        let of_all = mean(&mut tasks.iter().map(|(_, value)| *value));
        assert!((of_drawn - of_all).abs() < 0.02, "{of_drawn} {of_all}");
    }

    #[test]
    fn who_is_drawn_depends_neither_on_the_others_nor_on_what_was_measured() {
        let project = ProjectId::new();
        let all = tasks(200);
        let drawn = |tasks: &[(TaskId, f64)]| -> Vec<TaskId> {
            let mut drawn: Vec<TaskId> = order(project, tasks, 0.3)
                .into_iter()
                .filter(|(_, why)| *why == ChosenBy::Evaluation)
                .map(|(id, _)| id)
                .collect();
            drawn.sort();
            drawn
        };
        let again: Vec<(TaskId, f64)> = all.iter().map(|(id, value)| (*id, 0.25 - value)).collect();
        assert_eq!(drawn(&all), drawn(&again));
        let half = drawn(&all[..100]);
        assert!(!half.is_empty() && half.iter().all(|id| drawn(&all).contains(id)));
        assert!(
            order(project, &all, 0.0)
                .iter()
                .all(|(_, why)| *why == ChosenBy::Informative)
        );
        assert!(
            order(project, &all, 1.0)
                .iter()
                .all(|(_, why)| *why == ChosenBy::Evaluation)
        );
        assert!(order(project, &[], 0.5).is_empty());
    }
}
