//! Chat templates, which come with models from anywhere: what one may use of time and memory is
//! bounded, and whatever it does ends as a text or a sentence.
//!
//! minijinja counts instructions (its fuel) and bounds recursion. What single instructions can make
//! is bounded here: everything that a template joins, repeats, filters, compares or prints is
//! measured first, and taken off one budget.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::machinery::{
    CompiledTemplate, Instruction, TemplateConfig, Token, Vm, WhitespaceConfig, make_string_output,
    tokenize,
};
use minijinja::value::{Rest, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Expression, Value, context};

use crate::records::Message;

/// Largest template, in bytes; the longest in use have a fifth of it.
const LARGEST: usize = 64 << 10;

/// Most tokens of one expression or statement: the parser's results nest as deeply as they are long.
const LONGEST_EXPRESSION: usize = 1000;

/// Most multiplications, since those of constants are carried out while the template is read, each
/// for up to 100 MB of text.
const MOST_MULTIPLICATIONS: usize = 4;

/// Instructions that a template may use, and more for each turn of the conversation.
const FUEL: u64 = 50_000;
const FUEL_OF_A_TURN: u64 = 5_000;

/// Bytes that all instructions may take in or put out.
const BYTES: usize = 256 << 20;

/// Levels of lists within lists.
const DEEPEST: usize = 32;

/// The text that `template` makes of a conversation that the assistant is to go on with.
///
/// # Errors
/// A sentence: the template is wrong, refuses the conversation, or does not end in time.
pub(super) fn render(
    template: &str,
    messages: &[Message],
    bos_token: &str,
    eos_token: &str,
) -> Result<String, String> {
    let whitespace = WhitespaceConfig {
        keep_trailing_newline: false,
        lstrip_blocks: true,
        trim_blocks: true,
    };
    check_size(template, whitespace)?;
    let config = TemplateConfig {
        syntax_config: Default::default(),
        ws_config: whitespace,
        default_auto_escape: Arc::new(|_| AutoEscape::None),
    };
    let compiled = CompiledTemplate::new("the template", template, &config);
    let mut compiled = compiled.map_err(|error| error.to_string())?;
    let mut longest_raw = guard(&mut compiled.instructions);
    for block in compiled.blocks.values_mut() {
        longest_raw = longest_raw.max(guard(block));
    }
    let left = Arc::new(Budget(AtomicUsize::new(BYTES)));
    let mut environment = guarded_environment(&left);
    let fuel = FUEL + FUEL_OF_A_TURN * messages.len() as u64;
    // Fixed text is not measured; a loop around it takes three instructions.
    environment.set_fuel(Some(fuel.min((3 * BYTES / longest_raw.max(1)) as u64)));
    let values = context! {
        messages => messages,
        add_generation_prompt => true,
        bos_token => bos_token,
        eos_token => eos_token,
    };
    let mut text = String::new();
    let mut output = make_string_output(&mut text);
    Vm::new(&environment)
        .eval(
            &compiled.instructions,
            values,
            &compiled.blocks,
            &mut output,
            AutoEscape::None,
        )
        .map_err(|error| error.to_string())?;
    Ok(text)
}

/// Refuses a template that would cost too much to read.
fn check_size(template: &str, whitespace: WhitespaceConfig) -> Result<(), String> {
    if template.len() > LARGEST {
        return Err(format!(
            "has {} bytes; at most {LARGEST} are read",
            template.len()
        ));
    }
    let (mut n_tokens, mut n_multiplications) = (0, 0);
    for token in tokenize(template, false, Default::default(), whitespace) {
        match token.map_err(|error| error.to_string())?.0 {
            Token::VariableEnd | Token::BlockEnd => n_tokens = 0,
            Token::Mul | Token::Pow => n_multiplications += 1,
            _ => n_tokens += 1,
        }
        if n_tokens > LONGEST_EXPRESSION {
            return Err(format!(
                "has an expression of more than {LONGEST_EXPRESSION} parts"
            ));
        }
    }
    match n_multiplications > MOST_MULTIPLICATIONS {
        true => Err(format!(
            "multiplies more than {MOST_MULTIPLICATIONS} times, which no chat template needs"
        )),
        false => Ok(()),
    }
}

/// Operators whose operands are measured first, by the names of the filters that do so. A name
/// with a colon cannot be written in a template.
const OPERATORS: [(&str, &str); 10] = [
    ("guarded:~", "a ~ b"),
    ("guarded:+", "a + b"),
    ("guarded:*", "a * b"),
    ("guarded:==", "a == b"),
    ("guarded:!=", "a != b"),
    ("guarded:>", "a > b"),
    ("guarded:>=", "a >= b"),
    ("guarded:<", "a < b"),
    ("guarded:<=", "a <= b"),
    ("guarded:in", "a in b"),
];

/// Puts filters in the place of those operators. Returns the length of the longest fixed text.
fn guard(instructions: &mut minijinja::machinery::Instructions<'_>) -> usize {
    let mut longest = 0;
    for index in 0.. {
        let Some(instruction) = instructions.get_mut(index) else {
            break;
        };
        let name = match instruction {
            Instruction::StringConcat => "guarded:~",
            Instruction::Add => "guarded:+",
            Instruction::Mul => "guarded:*",
            Instruction::Eq => "guarded:==",
            Instruction::Ne => "guarded:!=",
            Instruction::Gt => "guarded:>",
            Instruction::Gte => "guarded:>=",
            Instruction::Lt => "guarded:<",
            Instruction::Lte => "guarded:<=",
            Instruction::In => "guarded:in",
            Instruction::EmitRaw(text) => {
                longest = longest.max(text.len());
                continue;
            }
            _ => continue,
        };
        // The last number would cache the filter; this one does not.
        *instruction = Instruction::ApplyFilter(name, Some(2), !0);
    }
    longest
}

/// minijinja as it comes, to which guarded operators and filters hand on.
static PLAIN: LazyLock<Environment<'static>> = LazyLock::new(Environment::new);

/// The operators as expressions of `a` and `b`.
static EXPRESSIONS: LazyLock<BTreeMap<&str, Expression<'static, 'static>>> = LazyLock::new(|| {
    let compiled = OPERATORS.into_iter().filter_map(|(name, expression)| {
        let compiled = PLAIN.compile_expression(expression).ok()?;
        Some((name, compiled))
    });
    compiled.collect()
});

/// Filters whose results can be larger than what they are given, or that take another filter.
const FILTERS: [&str; 21] = [
    "join", "replace", "indent", "format", "batch", "slice", "tojson", "pprint", "string",
    "escape", "e", "map", "list", "chain", "zip", "sum", "sort", "unique", "dictsort", "groupby",
    "title",
];

fn guarded_environment(left: &Arc<Budget>) -> Environment<'static> {
    let mut environment = Environment::new();
    for (name, _) in OPERATORS {
        let left = Arc::clone(left);
        environment.add_filter(name, move |a: Value, b: Value| {
            left.take_operands(name, &a, &b)?;
            match EXPRESSIONS.get(name) {
                Some(expression) => expression.eval(context! { a, b }),
                None => Err(refuse("uses an operator that is unknown")),
            }
        });
    }
    for name in FILTERS {
        let left = Arc::clone(left);
        environment.add_filter(name, move |args: Rest<Value>| {
            left.take_arguments(name, &args)?;
            PLAIN.empty_state().apply_filter(name, &args)
        });
    }
    let left = Arc::clone(left);
    environment.set_formatter(move |out, state, value| {
        left.take(value, 0)?;
        minijinja::escape_formatter(out, state, value)
    });
    environment
}

fn refuse(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// Bytes that are left to a template.
struct Budget(AtomicUsize);

impl Budget {
    fn spend(&self, n: usize) -> Result<(), Error> {
        let left = self.0.load(Ordering::Relaxed);
        match left.checked_sub(n) {
            Some(left) => {
                self.0.store(left, Ordering::Relaxed);
                Ok(())
            }
            None => Err(refuse(format!(
                "works on more than {} MiB of text",
                BYTES >> 20
            ))),
        }
    }

    /// Takes a value's size off the budget, that of all it holds included.
    fn take(&self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEEPEST {
            return Err(refuse("nests values too deeply, or within themselves"));
        }
        match value.kind() {
            ValueKind::String | ValueKind::Bytes => self.spend(value.len().unwrap_or(8)),
            ValueKind::Seq | ValueKind::Iterable => {
                self.spend(32)?;
                let mut items = value.try_iter()?;
                items.try_for_each(|item| self.take(&item, depth + 1))
            }
            ValueKind::Map => {
                self.spend(32)?;
                for key in value.try_iter()? {
                    self.take(&key, depth + 1)?;
                    self.take(&value.get_item(&key)?, depth + 1)?;
                }
                Ok(())
            }
            _ => self.spend(32),
        }
    }

    fn take_operands(&self, name: &str, a: &Value, b: &Value) -> Result<(), Error> {
        self.take(a, 0)?;
        self.take(b, 0)?;
        if name == "guarded:*" {
            for (value, times) in [(a, b), (b, a)] {
                let (Some(length), Some(times)) = (value.len(), times.as_usize()) else {
                    continue;
                };
                // An item of a list is more than a byte.
                let size = if value.as_str().is_some() { 1 } else { 32 };
                self.spend(length.saturating_mul(times).saturating_mul(size))?;
            }
        }
        Ok(())
    }

    fn take_arguments(&self, name: &str, args: &[Value]) -> Result<(), Error> {
        for value in args {
            self.take(value, 0)?;
        }
        let length = |index: usize| args.get(index).and_then(Value::len).unwrap_or(0);
        let number = |value: &Value| value.as_usize().unwrap_or(0);
        match name {
            // The separator comes once for each item, the replacement once for each character.
            "join" => self.spend(length(0).saturating_mul(length(1))),
            "replace" => self.spend((length(0) + 1).saturating_mul(length(2))),
            "indent" => {
                let width = args.iter().skip(1).map(number).max().unwrap_or(0);
                self.spend((length(0) + 1).saturating_mul(width))
            }
            "batch" | "slice" => {
                let count = args.iter().skip(1).map(number).max().unwrap_or(0);
                self.spend(count.saturating_mul(32))
            }
            "format" => {
                let pattern = args.first().and_then(Value::as_str).unwrap_or_default();
                let has_large_number = pattern
                    .split(|character: char| !character.is_ascii_digit())
                    .any(|digits| digits.len() > 3);
                let takes_width = pattern.contains('*');
                match has_large_number || takes_width {
                    true => Err(refuse("formats to a width that no chat template needs")),
                    false => self.spend(1000 * pattern.len()),
                }
            }
            "map" => {
                let inner = args.get(1).and_then(Value::as_str).unwrap_or_default();
                match ["join", "replace", "indent", "format", "batch", "slice"].contains(&inner) {
                    true => Err(refuse(format!("maps {inner}, which is not supported"))),
                    false => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn made(template: &str) -> Result<String, String> {
        let message = Message {
            role: "user".to_owned(),
            content: "say red".to_owned(),
        };
        render(template, &[message], "<s>", "</s>")
    }

    /// minijinja alone, as these templates were rendered before they were guarded.
    fn plain(template: &str) -> String {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        let values = context! {
            messages => [context! { role => "user", content => "say red" }],
            add_generation_prompt => true,
            bos_token => "<s>",
            eos_token => "</s>",
        };
        let template = environment.template_from_str(template).unwrap();
        template.render(values).unwrap()
    }

    #[test]
    fn a_harmless_template_makes_what_it_made_without_guards() {
        for template in [
            "{% for m in messages %}{{ '<' + m['role'] + '>\n' + m.content + eos_token }}{% endfor %}\n",
            "{{ 1 + 2 }}{{ 'a' ~ 3 }}{{ 2 * 'ab' }}{{ 'ab' in bos_token }}{{ [1, 2] + [3] }}",
            "{{ [1] == [1] }}{{ 1 != 2 }}{{ 1 < 2 <= 3 }}{{ 's' in bos_token }}{{ 2 not in [1] }}",
            "{% set ns = namespace(x='') %}{% for i in range(3) %}{% set ns.x = ns.x + 'a' %}{% endfor %}{{ ns.x }}",
            "{{ messages | tojson }}{{ ['a', 'b'] | join(', ') }}{{ 'aXb' | replace('X', '-') }}",
            "{{ messages | map(attribute='role') | list }}{{ '%s!' | format('a') }}{{ 'a\nb' | indent(2) }}",
            "{% macro f(x) %}[{{ x ~ x }}]{% endmacro %}{{ f('a') }}{{ messages[0] }}{{ none }}{{ 1.5 }}",
            "  {% if messages[0].role == 'user' and not false %}\n  yes\n{% endif %}\n",
            "{{ messages|length > 0 }}{{ missing }}{{ missing is defined }}{{ 'b' | upper | e }}",
        ] {
            assert_eq!(made(template).unwrap(), plain(template), "{template}");
        }
    }

    #[test]
    fn a_template_that_does_not_end_or_makes_too_much_is_refused() {
        let doubling = |operation: &str| {
            format!(
                "{{% set ns = namespace(x='xxxxxxxx') %}}{{% for i in range(99) %}}\
                 {{% set ns.x = {operation} %}}{{% endfor %}}{{{{ ns.x }}}}"
            )
        };
        let loops = "{% for i in range(99999) %}".repeat(4);
        for (template, words) in [
            (doubling("ns.x ~ ns.x"), "MiB of text"),
            (doubling("ns.x + ns.x"), "MiB of text"),
            (doubling("ns.x * 9"), "MiB of text"),
            (doubling("[ns.x, ns.x] | join"), "MiB of text"),
            (doubling("ns.x | replace('x', ns.x)"), "MiB of text"),
            (doubling("ns.x | tojson | tojson"), "MiB of text"),
            (doubling("ns.x | title | indent(999999)"), "MiB of text"),
            (doubling("'%9999999d' | format(1)"), "width"),
            (doubling("[ns.x, ns.x]"), "nests values"),
            (
                doubling("[ns.x, ns.x] %}{% if ns.x == ns.x %}{% endif"),
                "MiB of text",
            ),
            ("{{ 'x' * 1000000000 }}".to_owned(), "MiB of text"),
            ("{{ ('x' * 99999999) * 9 }}".to_owned(), "MiB of text"),
            ("{{ [1] * 999999999999 }}".to_owned(), "MiB of text"),
            ("{{ 'x' | batch(999999999999) }}".to_owned(), "MiB of text"),
            ("{{ 2*2*2*2*2*2 }}".to_owned(), "multiplies"),
            (format!("{loops}x"), "unexpected end"),
            (
                format!("{loops}x{}", "{% endfor %}".repeat(4)),
                "out of fuel",
            ),
            (
                "{% macro f(x) %}{{ f(x ~ x) }}{% endmacro %}{{ f('a') }}".to_owned(),
                "MiB of text",
            ),
            (
                "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}".to_owned(),
                "within themselves",
            ),
            (
                "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns | tojson }}".to_owned(),
                "within themselves",
            ),
            (
                "{{ a ~ ".to_owned() + &"a ~ ".repeat(5000) + "a }}",
                "parts",
            ),
            ("x".repeat(70_000), "bytes"),
            ("{{ ".to_owned() + &"(".repeat(900), "recursion"),
            ("{{ ".to_owned() + &"not ".repeat(900) + "a }}", ""),
            ("{% if a %}x".to_owned(), "unexpected end"),
            ("{% include 'x' %}".to_owned(), "not"),
            ("{{ messages.no.such }}".to_owned(), "undefined"),
            ("{{ raise('no') }}".to_owned(), "unknown"),
        ] {
            let said = match made(&template) {
                Err(said) => said,
                Ok(made) => {
                    assert!(words.is_empty(), "{template}: {} bytes", made.len());
                    continue;
                }
            };
            assert!(said.contains(words), "{template:.99}: {said}");
        }
    }
}
