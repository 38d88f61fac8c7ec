//! Figures that take a while: made on a thread of their own, one after another so that they never take
//! more than one core from those who label, and kept while nothing new was said. Where something new is
//! said all the time, figures stand for ten times as long as they took to make.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::domain::agreement::{Agreement, History};
use crate::domain::ids::{AccountId, ProjectId};
use crate::domain::labels::{Filter, Labels};
use crate::domain::models::Models;
use crate::error::{AppError, AppResult};
use crate::state::AppState;
use crate::store::labels::{self, MOST, Stamp};

/// Figures that are kept of each sort.
const KEPT: usize = 32;

/// Kept figures are made anew after this even where nothing new is seen: rankings can be imported under
/// old keys.
const LONGEST_KEPT: Duration = Duration::from_secs(300);

/// How much longer than they took to make figures are shown although something new was said.
const PATIENCE: u32 = 10;

/// All figures that are kept.
pub struct Figures {
    agreement: Kept<(ProjectId, Filter), Agreement>,
    histories: Kept<(ProjectId, Filter, AccountId), Option<History>>,
    models: Kept<(ProjectId, Filter), Models>,
    making: Semaphore,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            agreement: Kept::default(),
            histories: Kept::default(),
            models: Kept::default(),
            making: Semaphore::new(1),
        }
    }
}

/// Figures of one sort, by what they are of; the last used first.
struct Kept<K, V> {
    entries: Mutex<Vec<Entry<K, V>>>,
}

struct Entry<K, V> {
    key: K,
    stamp: Stamp,
    made: Instant,
    took: Duration,
    figures: Arc<V>,
}

impl<K, V> Entry<K, V> {
    /// Whether the figures can still be shown.
    fn holds(&self, stamp: &Stamp, now: Instant) -> bool {
        let same_rules = Stamp {
            newest: self.stamp.newest,
            ..*stamp
        };
        let age = now.saturating_duration_since(self.made);
        let is_fresh = age < self.took * PATIENCE;
        age < LONGEST_KEPT && (self.stamp == *stamp || self.stamp == same_rules && is_fresh)
    }
}

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self {
            entries: Mutex::new(Vec::new()),
        }
    }
}

impl<K: PartialEq, V> Kept<K, V> {
    /// What is kept, if nothing was said since.
    fn find(&self, key: &K, stamp: &Stamp) -> Option<Arc<V>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let place = entries.iter().position(|own| own.key == *key)?;
        let entry = entries.remove(place);
        if !entry.holds(stamp, Instant::now()) {
            return None;
        }
        let figures = entry.figures.clone();
        entries.insert(0, entry);
        Some(figures)
    }

    fn keep(&self, key: K, stamp: Stamp, took: Duration, figures: Arc<V>) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|own| own.key != key);
        let entry = Entry {
            key,
            stamp,
            made: Instant::now(),
            took,
            figures,
        };
        entries.insert(0, entry);
        entries.truncate(KEPT);
    }
}

/// How far labelers of a project agree.
///
/// # Errors
/// `NotFound` for an unknown project; otherwise only our own failures.
pub async fn agreement(
    state: &AppState,
    project_id: ProjectId,
    filter: &Filter,
) -> AppResult<Arc<Agreement>> {
    let key = (project_id, filter.clone());
    find_or_make(
        state,
        project_id,
        filter,
        |figures| &figures.agreement,
        key,
        |labels, stamp| Agreement::of(labels, stamp.least_seconds),
    )
    .await
}

/// More of one labeler of a project; none where they said nothing that passes the filter.
///
/// # Errors
/// As [`agreement`].
pub async fn history(
    state: &AppState,
    project_id: ProjectId,
    filter: &Filter,
    labeler_id: AccountId,
) -> AppResult<Arc<Option<History>>> {
    let key = (project_id, filter.clone(), labeler_id);
    find_or_make(
        state,
        project_id,
        filter,
        |figures| &figures.histories,
        key,
        move |labels, _| {
            let found = labels.labelers.iter().position(|own| own.id == labeler_id);
            found.map(|number| History::of(labels, number))
        },
    )
    .await
}

/// The models of a project, compared.
///
/// # Errors
/// As [`agreement`].
pub async fn models(
    state: &AppState,
    project_id: ProjectId,
    filter: &Filter,
) -> AppResult<Arc<Models>> {
    let key = (project_id, filter.clone());
    find_or_make(
        state,
        project_id,
        filter,
        |figures| &figures.models,
        key,
        |labels, _| Models::of(labels),
    )
    .await
}

async fn find_or_make<K: PartialEq + Send + 'static, V: Send + Sync + 'static>(
    state: &AppState,
    project_id: ProjectId,
    filter: &Filter,
    kept: fn(&Figures) -> &Kept<K, V>,
    key: K,
    make: impl FnOnce(&Labels, &Stamp) -> V + Send + 'static,
) -> AppResult<Arc<V>> {
    let mut db = state.db.acquire().await?;
    let stamp = labels::find_stamp(&mut db, project_id).await?;
    let stamp = stamp.ok_or(AppError::NotFound("project"))?;
    drop(db);
    if let Some(figures) = kept(&state.figures).find(&key, &stamp) {
        return Ok(figures);
    }
    let (state, filter) = (state.clone(), filter.clone());
    to_the_end(async move {
        let kept = kept(&state.figures);
        let turn = state.figures.making.acquire().await;
        let _turn = turn.map_err(anyhow::Error::from)?;
        // Somebody before us may have made the same.
        if let Some(figures) = kept.find(&key, &stamp) {
            return Ok(figures);
        }
        let started = Instant::now();
        let mut db = state.db.acquire().await?;
        let labels = labels::list(&mut db, project_id, &filter, MOST).await?;
        drop(db);
        let read = started.elapsed();
        let figures = tokio::task::spawn_blocking(move || make(&labels, &stamp));
        let figures = Arc::new(figures.await.map_err(anyhow::Error::from)?);
        let took = started.elapsed();
        let (read, all) = (read.as_millis(), took.as_millis());
        tracing::debug!(%project_id, read_ms = %read, all_ms = %all, "made figures");
        kept.keep(key, stamp, took, figures.clone());
        Ok(figures)
    })
    .await
}

/// Does this even where nobody waits for it any more: a thread at work does not stop with the request that
/// began it, so the turn must not be free before it, and what it made is of use to the next.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = AppResult<T>> + Send + 'static,
) -> AppResult<T> {
    tokio::spawn(work).await.map_err(anyhow::Error::from)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::RankingId;

    const AT_ONCE: Duration = Duration::ZERO;

    fn stamp(newest: Option<RankingId>, least_seconds: i16) -> Stamp {
        Stamp {
            newest,
            gold_at: None,
            least_seconds,
        }
    }

    #[test]
    fn what_is_kept_is_given_again_until_something_new_is_said() {
        let kept: Kept<u8, u8> = Kept::default();
        let before = stamp(Some(RankingId::new()), 1);
        kept.keep(1, before, AT_ONCE, Arc::new(10));
        assert_eq!(kept.find(&1, &before), Some(Arc::new(10)));
        assert_eq!(kept.find(&2, &before), None);
        let after = stamp(Some(RankingId::new()), 1);
        assert_eq!(kept.find(&1, &after), None);
        // What is out of date is gone.
        assert_eq!(kept.find(&1, &before), None);
    }

    #[test]
    fn what_took_long_is_shown_for_longer_unless_the_rules_have_changed() {
        let kept: Kept<u8, u8> = Kept::default();
        let minute = Duration::from_secs(60);
        let before = stamp(Some(RankingId::new()), 1);
        let after = |least_seconds| stamp(Some(RankingId::new()), least_seconds);
        kept.keep(1, before, minute, Arc::new(10));
        assert_eq!(kept.find(&1, &after(1)), Some(Arc::new(10)));
        assert_eq!(kept.find(&1, &after(2)), None);
    }

    #[tokio::test]
    async fn a_turn_is_not_free_before_the_work_has_ended_although_nobody_waits() {
        let making = Arc::new(Semaphore::new(1));
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let work = {
            let making = making.clone();
            async move {
                let _turn = making.acquire().await.map_err(anyhow::Error::from)?;
                Ok(ended.await.is_ok())
            }
        };
        let moment = Duration::from_millis(50);
        let waited = tokio::time::timeout(moment, to_the_end(work)).await;
        assert!(waited.is_err());
        assert_eq!(making.available_permits(), 0);
        assert_eq!(end.send(()), Ok(()));
        let free = tokio::time::timeout(Duration::from_secs(20), making.acquire()).await;
        assert!(free.is_ok_and(|turn| turn.is_ok()));
    }

    #[test]
    fn nothing_is_kept_for_more_than_five_minutes_however_long_it_took() {
        let before = stamp(Some(RankingId::new()), 1);
        let made = Instant::now();
        let entry = Entry {
            key: 1,
            stamp: before,
            made,
            took: Duration::from_secs(60),
            figures: Arc::new(10),
        };
        let after = stamp(Some(RankingId::new()), 1);
        for stamp in [before, after] {
            assert!(entry.holds(&stamp, made + LONGEST_KEPT - Duration::from_secs(1)));
            assert!(!entry.holds(&stamp, made + LONGEST_KEPT));
        }
    }

    #[test]
    fn what_was_not_used_for_longest_makes_room() {
        let kept: Kept<usize, usize> = Kept::default();
        let now = stamp(None, 1);
        for number in 0..KEPT {
            kept.keep(number, now, AT_ONCE, Arc::new(number));
        }
        assert_eq!(kept.find(&0, &now), Some(Arc::new(0)));
        kept.keep(KEPT, now, AT_ONCE, Arc::new(KEPT));
        assert_eq!(kept.find(&0, &now), Some(Arc::new(0)));
        assert_eq!(kept.find(&1, &now), None);
    }
}
