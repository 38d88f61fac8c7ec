//! The figures of a run's page: which come first, and what each is called.

use serde_json::Value;

use crate::i18n::find;
use crate::store::runs::Run;
use crate::web::chart::Chart;
use crate::web::page::Page;

/// What a figure is called, and the key that files and TensorBoard have it under.
pub struct Title {
    /// In the reader's language; none for a key that the catalogue does not know.
    pub name: Option<String>,
    /// The key.
    pub key: String,
}

impl Title {
    fn of(page: &Page, key: &str) -> Self {
        Self {
            name: find(page.lang, &format!("figure-{}", key.replace('/', "-"))),
            key: key.to_owned(),
        }
    }

    /// The name, or the key where there is none.
    pub fn text(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.key)
    }
}

/// A curve under its name.
pub struct Curve {
    /// What it is called.
    pub title: Title,
    /// Its points.
    pub chart: Chart,
}

/// A final figure under its name.
pub struct Fact {
    /// What it is called.
    pub title: Title,
    /// As a text.
    pub value: String,
}

/// One of the few figures that a run is looked at for.
pub struct Headline {
    /// What it is called.
    pub name: String,
    /// As a text.
    pub value: String,
    /// What it is measured on, or how sure it is; may be empty.
    pub detail: String,
    /// The curve whose newest value it is, while the run goes on and the page follows it.
    pub follows: Option<&'static str>,
}

/// Charts of what the run tells. Without texts an older trainer told 0 for their loss, which is no
/// loss at all.
pub fn charts<'a>(run: &Run, metrics: impl IntoIterator<Item = &'a Value>) -> Vec<Chart> {
    let mut charts = Chart::from_metrics(metrics);
    if run.texts_snapshot_id.is_none() {
        charts.retain(|chart| chart.name != "ptx/loss");
    }
    charts
}

/// The curves that people look for first, and the others.
pub fn curves(page: &Page, charts: Vec<Chart>) -> (Vec<Curve>, Vec<Curve>) {
    let curves = charts.into_iter().map(|chart| Curve {
        title: Title::of(page, &chart.name),
        chart,
    });
    curves.partition(|curve| curve.chart.is_main())
}

/// Every final figure, those of one family side by side.
pub fn facts(page: &Page, summary: &Value) -> Vec<Fact> {
    let fields = summary.as_object().into_iter().flatten();
    let mut facts: Vec<Fact> = fields
        .map(|(key, value)| Fact {
            title: Title::of(page, key),
            value: fact_text(page, key, value),
        })
        .collect();
    facts.sort_by(|a, b| a.title.key.cmp(&b.title.key));
    facts
}

fn fact_text(page: &Page, key: &str, value: &Value) -> String {
    match value.as_f64() {
        // A trainer's figures are all numbers.
        Some(number) if key == "evaluation_prompts_kept_out" || key.starts_with("stopped_by_") => {
            page.t(match number > 0.0 {
                true => "runs-yes",
                false => "runs-no",
            })
        }
        Some(number) if number.fract() == 0.0 => format!("{number:.0}"),
        Some(number) => format!("{number:.4}"),
        None => value.to_string(),
    }
}

/// What the run is looked at for: its final figures, or the newest while it has none.
pub fn headlines(page: &Page, run: &Run, charts: &[Chart]) -> Vec<Headline> {
    let figures = Figures { page, run, charts };
    let found = match run.kind.as_str() {
        "ppo" => figures.of_ppo(),
        "reward" => figures.of_reward(),
        "dpo" => figures.of_dpo(),
        "sft" => figures.of_sft(),
        "generation" => ["tasks", "completions", "prompts_left_out"]
            .map(|key| figures.count(key))
            .into(),
        _ => Vec::new(),
    };
    found.into_iter().flatten().collect()
}

/// Where headlines are taken from.
struct Figures<'a> {
    page: &'a Page,
    run: &'a Run,
    charts: &'a [Chart],
}

impl Figures<'_> {
    fn of_ppo(&self) -> Vec<Option<Headline>> {
        let budget = self.kl_budget();
        let kl = |found: Headline| found.with_detail(budget);
        if self.summary("reward_after").is_none() {
            return vec![
                self.newest("objective/reward")
                    .or_else(|| self.newest("objective/score")),
                self.newest("objective/gold"),
                self.newest("objective/kl").map(kl),
            ];
        }
        let before = self.measured("reward_before");
        let after = self.measured("reward_after");
        vec![
            before.map(|found| found.with_detail(self.evaluation_prompts())),
            after.map(|found| found.with_detail(self.page.t("runs-same-prompts"))),
            self.gained("reward_gain")
                .map(|found| self.or_no_interval(found)),
            self.gained("gold_gain")
                .map(|found| self.or_no_interval(found)),
            self.measured("kl_last_batch").map(kl),
        ]
    }

    fn of_reward(&self) -> Vec<Option<Headline>> {
        if self.summary("held_out_accuracy").is_none() {
            return ["held_out/accuracy", "held_out/length_only_accuracy"]
                .map(|key| self.newest(key))
                .into();
        }
        [
            self.measured("held_out_accuracy"),
            self.measured("length_only_accuracy"),
            self.gained("accuracy_over_length"),
            self.measured("cross_validated_accuracy"),
            self.measured("cross_validated_length_only"),
            self.gained("cross_validated_over_length"),
            self.measured("labeler_agreement"),
        ]
        .map(|found| found.map(|found| self.or_no_interval(found)))
        .into()
    }

    fn of_dpo(&self) -> Vec<Option<Headline>> {
        if self.summary("held_out_accuracy").is_none() {
            return [
                "held_out/accuracy",
                "held_out/length_only_accuracy",
                "held_out/margin",
            ]
            .map(|key| self.newest(key))
            .into();
        }
        [
            self.measured("held_out_accuracy"),
            self.measured("length_only_accuracy"),
            self.gained("accuracy_over_length"),
            self.gained("held_out_margin"),
        ]
        .map(|found| found.map(|found| self.or_no_interval(found)))
        .into()
    }

    fn of_sft(&self) -> Vec<Option<Headline>> {
        if self.summary("held_out_loss").is_none() {
            return ["train/loss", "held_out/loss", "held_out/reward"]
                .map(|key| self.newest(key))
                .into();
        }
        [
            "held_out_loss_before",
            "held_out_loss",
            "held_out_reward_before",
            "held_out_reward",
        ]
        .map(|key| self.measured(key))
        .into()
    }

    /// How far the policy may stray.
    fn kl_budget(&self) -> String {
        let budget = self.run.config["kl_budget"].as_f64();
        budget.map_or(String::new(), |budget| {
            self.page.t_with("runs-kl-budget", "budget", budget)
        })
    }

    /// A final figure with its interval, where it has one.
    fn measured(&self, key: &str) -> Option<Headline> {
        let value = self.summary(key)?;
        Some(self.headline(key, format!("{value:.3}"), self.interval(key)))
    }

    /// The same of a difference, which shows its sign.
    fn gained(&self, key: &str) -> Option<Headline> {
        let value = self.summary(key)?;
        Some(self.headline(key, format!("{value:+.3}"), self.interval(key)))
    }

    /// A figure that has an interval wherever there is one says that there is none.
    fn or_no_interval(&self, found: Headline) -> Headline {
        match found.detail.is_empty() {
            true => found.with_detail(self.page.t("runs-no-interval")),
            false => found,
        }
    }

    fn interval(&self, key: &str) -> String {
        let end = |name: &str| self.summary(&format!("{key}_{name}"));
        self.interval_text(end("low"), end("high"))
    }

    /// The newest point of a curve, with its interval once it is the last.
    fn newest(&self, key: &'static str) -> Option<Headline> {
        let value = self.last(key)?;
        let headline = self.headline(key, format!("{value:.3}"), String::new());
        if !self.run.is_over() {
            return Some(Headline {
                follows: Some(key),
                ..headline
            });
        }
        let end = |name: &str| self.last(&format!("{key}_{name}"));
        Some(headline.with_detail(self.interval_text(end("low"), end("high"))))
    }

    fn interval_text(&self, low: Option<f64>, high: Option<f64>) -> String {
        let (Some(low), Some(high)) = (low, high) else {
            return String::new();
        };
        let interval = format!("[{low:.3}, {high:.3}]");
        self.page.t_with("runs-interval", "interval", interval)
    }

    fn count(&self, key: &str) -> Option<Headline> {
        let value = self.summary(key)?;
        Some(self.headline(key, format!("{value:.0}"), String::new()))
    }

    /// Which prompts were answered before and after.
    fn evaluation_prompts(&self) -> String {
        let Some(n) = self.summary("n_evaluation_prompts") else {
            return String::new();
        };
        let key = match self.summary("evaluation_prompts_kept_out") {
            Some(kept_out) if kept_out > 0.0 => "runs-on-kept-out-prompts",
            _ => "runs-on-known-prompts",
        };
        self.page.t_with(key, "n", n)
    }

    fn headline(&self, key: &str, value: String, detail: String) -> Headline {
        let name = Title::of(self.page, key).text().to_owned();
        Headline {
            name,
            value,
            detail,
            follows: None,
        }
    }

    fn summary(&self, key: &str) -> Option<f64> {
        self.run.summary[key].as_f64()
    }

    fn last(&self, key: &str) -> Option<f64> {
        let chart = self.charts.iter().find(|chart| chart.name == key)?;
        chart.points.last().map(|(_, value)| *value)
    }
}

impl Headline {
    fn with_detail(self, detail: String) -> Self {
        Self { detail, ..self }
    }
}
