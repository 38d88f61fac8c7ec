//! What random inputs are made of.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fmt::Display;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

/// So many cases, unless `PROPTEST_CASES` says otherwise.
pub(crate) fn few(n: u32) -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = n;
    }
    config.max_shrink_iters = 200;
    config.failure_persistence = None;
    config
}

/// What a call made, if it made anything; what it said instead must be one sentence.
pub(crate) fn ends_well<T, E: Display>(result: Result<T, E>) -> Result<Option<T>, TestCaseError> {
    match result {
        Ok(made) => Ok(Some(made)),
        Err(error) => {
            let said = error.to_string();
            let is_sentence = !said.trim().is_empty()
                && said.chars().count() < 1500
                && !said.contains(char::is_control);
            prop_assert!(is_sentence, "{:?}", said);
            Ok(None)
        }
    }
}

/// Values that break what expects another.
fn hostile_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(|value| json!(value)),
        prop::sample::select(vec![
            json!(0),
            json!(-1),
            json!(1),
            json!(2),
            json!(3),
            json!(7),
            json!(0.5),
            json!(1.5),
            json!(-0.0),
            json!(1e-300),
            json!(1e38),
            json!(1e39),
            json!(1e308),
            json!(-1e308),
            json!(u64::MAX),
            json!(u64::MAX / 2 + 1),
            json!(i64::MIN),
            json!(u32::MAX),
            json!(1_u64 << 32),
            json!(1_000_000_000),
            json!("NaN"),
            json!("inf"),
            json!("-0"),
            json!(""),
            json!("\u{0}"),
            json!("../x"),
            json!("fixed"),
            json!({"kind": "adaptive", "target": 1e-6, "horizon": 1}),
            json!({"kind": "adaptive", "target": 0.1, "horizon": 1e12}),
            json!({"kind": "cosine", "floor": 1}),
            json!({"kind": "constant", "warmup": u64::MAX, "from": 0}),
            json!({"kind": "davidson", "nu": 1e6}),
            json!({"kind": "rao_kupper", "threshold": 100}),
            json!({"kind": "plackett_luce"}),
        ]),
        (0_u64..300).prop_map(|value| json!(value)),
        (-3.0..3.0_f64).prop_map(|value| json!(value)),
        any::<f64>().prop_map(|value| json!(value)),
        any::<i64>().prop_map(|value| json!(value)),
        "\\PC{0,12}".prop_map(|value| json!(value)),
        any::<String>().prop_map(|value| json!(value)),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec(("[a-z_]{0,10}", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// One change of a JSON value, whatever fields it has.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// Picks a field at each level; the walk ends where `stop` says so or nothing is below.
    way: Vec<(prop::sample::Index, bool)>,
    kind: Kind,
    value: Value,
    name: String,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Another value.
    Set,
    /// The value times a number near 1, or a large one.
    Scale(f64),
    /// No such field.
    Remove,
    /// One more field.
    Add,
}

/// A few changes.
pub(crate) fn changes() -> impl Strategy<Value = Vec<Change>> {
    let kind = prop_oneof![
        6 => Just(Kind::Set),
        4 => prop::sample::select(vec![0.5, 0.9, 1.1, 2.0, -1.0, 10.0, 1e6]).prop_map(Kind::Scale),
        2 => Just(Kind::Remove),
        1 => Just(Kind::Add),
    ];
    let way = prop::collection::vec(
        (any::<prop::sample::Index>(), prop::bool::weighted(0.15)),
        1..8,
    );
    let change =
        (way, kind, hostile_value(), "[a-z_]{1,8}").prop_map(|(way, kind, value, name)| Change {
            way,
            kind,
            value,
            name,
        });
    prop::collection::vec(change, 1..5)
}

impl Change {
    /// Changes `value`.
    pub(crate) fn apply(&self, value: &mut Value) {
        let mut here = value;
        for (depth, (index, stop)) in self.way.iter().enumerate() {
            let is_last = depth + 1 == self.way.len() || (*stop && depth > 0);
            let remove = is_last && matches!(self.kind, Kind::Remove);
            let is_leaf = match &*here {
                Value::Object(fields) => fields.is_empty(),
                Value::Array(items) => items.is_empty(),
                _ => true,
            };
            if is_leaf {
                break;
            }
            here = match here {
                Value::Object(fields) => {
                    let name = fields
                        .keys()
                        .nth(index.index(fields.len()))
                        .unwrap()
                        .clone();
                    if remove {
                        fields.remove(&name);
                        return;
                    }
                    fields.get_mut(&name).unwrap()
                }
                Value::Array(items) => {
                    let index = index.index(items.len());
                    if remove {
                        items.remove(index);
                        return;
                    }
                    &mut items[index]
                }
                leaf => leaf,
            };
            if is_last {
                break;
            }
        }
        self.change(here);
    }

    fn change(&self, here: &mut Value) {
        match (self.kind, &mut *here) {
            (Kind::Scale(by), Value::Number(number)) => {
                let is_whole = number.as_u64().is_some();
                let scaled = number.as_f64().unwrap_or(0.0) * by;
                *here = match is_whole {
                    true => json!(scaled as i64),
                    false => json!(scaled),
                };
            }
            (Kind::Scale(_), Value::String(text)) => text.push_str(&self.name),
            (Kind::Add, Value::Object(fields)) => {
                fields.insert(self.name.clone(), self.value.clone());
            }
            (Kind::Add, Value::Array(items)) => items.push(self.value.clone()),
            _ => *here = self.value.clone(),
        }
    }

    /// Adds to `asked`, settings to be laid over `preset`, the one that is changed.
    pub(crate) fn add_to(&self, asked: &mut Value, preset: &Value) {
        let mut changed = preset.clone();
        self.apply(&mut changed);
        lay_over(asked, preset, &changed);
    }
}

/// Puts into `asked` what differs between two values.
fn lay_over(asked: &mut Value, old: &Value, new: &Value) {
    let (Some(fields), Some(was)) = (new.as_object(), old.as_object()) else {
        *asked = new.clone();
        return;
    };
    if !asked.is_object() {
        *asked = json!({});
    }
    for (name, value) in fields {
        match was.get(name) {
            Some(old) if old == value => (),
            Some(old) => {
                let mut inner = asked[name].take();
                lay_over(&mut inner, old, value);
                asked[name] = inner;
            }
            None => asked[name] = value.clone(),
        }
    }
}

/// Settings with which a run of the tiny model takes a moment: whole numbers are counts, of
/// steps, rows or tokens.
pub(crate) fn tamed(mut config: Value) -> Value {
    fn tame(name: &str, value: &mut Value) {
        match value {
            Value::Object(fields) => fields.iter_mut().for_each(|(name, own)| tame(name, own)),
            Value::Array(items) => items.iter_mut().for_each(|own| tame(name, own)),
            Value::Number(number) => {
                let most = match name {
                    "seed" | "warmup" => return,
                    name if name.ends_with("max_tokens") => 128,
                    name if name.ends_with("prompt_tokens") => 64,
                    name if name.ends_with("tokens") => 8,
                    name if name.ends_with("iterations") || name.ends_with("epochs") => 2,
                    _ => 8,
                };
                if let Some(count) = number.as_u64() {
                    *value = json!(count.min(most));
                } else if name.ends_with("per_episode") {
                    *value = json!(number.as_f64().unwrap_or(0.0).min(2.0));
                }
            }
            _ => (),
        }
    }
    tame("", &mut config);
    config
}

/// Lines that are good, nearly good, or nothing of the kind.
pub(crate) fn hostile_lines(good: Vec<Value>) -> impl Strategy<Value = Vec<u8>> {
    let good = prop::sample::select(good);
    let line = prop_oneof![
        5 => good.clone().prop_map(|line| line.to_string().into_bytes()),
        4 => (good.clone(), changes()).prop_map(|(mut line, changes)| {
            changes.iter().for_each(|change| change.apply(&mut line));
            line.to_string().into_bytes()
        }),
        2 => (good, corrupted(200)).prop_map(|(line, damage)| {
            damage.apply(line.to_string().as_bytes())
        }),
        1 => hostile_value().prop_map(|value| value.to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ];
    let end = prop::sample::select(vec!["\n", "\r\n", "\n\n", "\r", ""]);
    let lines = prop::collection::vec((line, prop_oneof![9 => Just("\n"), 1 => end]), 0..6);
    lines.prop_map(|lines| {
        let parts = lines.into_iter();
        parts
            .flat_map(|(line, end)| [line, end.as_bytes().to_vec()])
            .flatten()
            .collect()
    })
}

/// Damage to a file.
#[derive(Debug, Clone)]
pub(crate) struct Damage {
    changes: Vec<(usize, u8)>,
    cut: Option<prop::sample::Index>,
    extra: Vec<u8>,
}

/// Damage, most of it to the first `head` bytes, where headers are.
pub(crate) fn corrupted(head: usize) -> impl Strategy<Value = Damage> {
    let byte = prop_oneof![any::<u8>(), Just(0), Just(0xff), Just(b'"'), Just(b'9')];
    let place = prop_oneof![3 => 0..head, 1 => any::<usize>()];
    (
        prop::collection::vec((place, byte), 0..4),
        prop::option::weighted(0.2, any::<prop::sample::Index>()),
        prop_oneof![5 => Just(Vec::new()), 1 => prop::collection::vec(any::<u8>(), 0..9)],
    )
        .prop_map(|(changes, cut, extra)| Damage {
            changes,
            cut,
            extra,
        })
}

impl Damage {
    /// The damaged bytes.
    pub(crate) fn apply(&self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        if bytes.is_empty() {
            return self.extra.clone();
        }
        for (place, byte) in &self.changes {
            let place = place % bytes.len();
            bytes[place] = *byte;
        }
        if let Some(cut) = self.cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes.extend(&self.extra);
        bytes
    }
}

/// Templates of parts that real ones have, in any order.
pub(crate) fn template() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "{% for m in messages %}",
        "{% for i in range(9999) %}",
        "{% endfor %}",
        "{% if m.role == 'user' %}",
        "{% elif loop.first %}",
        "{% else %}",
        "{% endif %}",
        "{% set x = 'ab' %}",
        "{% set x = x ~ x %}",
        "{% set x = [x, x] %}",
        "{% set ns = namespace(x=1) %}",
        "{% set ns.x = ns %}",
        "{% set ns.x = ns.x ~ ns.x %}",
        "{% macro f(a) %}",
        "{% endmacro %}",
        "{{ f(x) }}",
        "{{ f(f) }}",
        "{{ m.content }}",
        "{{ messages | tojson }}",
        "{{ messages[0]['content'] + eos_token }}",
        "{{ x * 99999999 }}",
        "{{ x | join(x) | replace('a', x) | indent(99) }}",
        "{{ '%s' | format(x) }}",
        "{{ x | batch(2) | list }}",
        "{{ ns == ns }}",
        "{{ x in ns }}",
        "{{ -x }}",
        "{{ 1 // 0 }}",
        "{{ 1 % 0 }}",
        "{{ 2 ** 9999 }}",
        "{{ 9223372036854775807 + 1 }}",
        "{{ x[::-1] }}",
        "{{ x[9:] }}",
        "{{ loop.index }}",
        "{{ super() }}",
        "{{ debug() }}",
        "{% filter upper %}",
        "{% endfilter %}",
        "{% raw %}",
        "{% endraw %}",
        "{# ",
        " #}",
        "{{ ",
        " }}",
        "'",
        "(((",
        "text\n",
        "\u{0}\u{202e}ä",
    ]);
    prop_oneof![
        5 => prop::collection::vec(part, 0..14).prop_map(|parts| parts.concat()),
        1 => "\\PC{0,60}",
    ]
}
