//! The languages whose code is coloured, as data: what their words, strings and comments look like.

/// How a language is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Words, strings and comments.
    Code,
    /// Tags and attributes.
    Markup,
    /// Lines that begin with `+` and `-`.
    Diff,
}

/// What a string stands between.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quote {
    pub(super) open: &'static str,
    pub(super) close: &'static str,
    pub(super) has_escapes: bool,
    pub(super) is_multiline: bool,
    /// Whether it holds one character, and is something else where it does not.
    pub(super) is_char: bool,
}

/// A language.
#[derive(Debug, Clone, Copy)]
pub(super) struct Language {
    /// What a code block's first line may call it, in small letters.
    pub(super) names: &'static [&'static str],
    pub(super) kind: Kind,
    /// Its words, with a space between.
    keywords: &'static str,
    ignores_case: bool,
    pub(super) line_comments: &'static [&'static str],
    /// Whether a line's comment needs a space before it.
    pub(super) comment_after_space: bool,
    pub(super) block_comments: &'static [(&'static str, &'static str)],
    pub(super) quotes: &'static [Quote],
    /// What a word may hold besides letters, digits and `_`.
    word_signs: &'static str,
    /// Signs that make a name of the word after them.
    pub(super) sigils: &'static str,
    /// What follows a key.
    pub(super) key_sign: Option<char>,
}

impl Language {
    /// Whether a word may hold this character, apart from digits.
    pub(super) fn is_word(&self, char: char) -> bool {
        char.is_alphabetic() || char == '_' || self.word_signs.contains(char)
    }

    /// Whether the language has this word.
    pub(super) fn is_keyword(&self, word: &str) -> bool {
        let is_same = |keyword: &str| match self.ignores_case {
            true => keyword.eq_ignore_ascii_case(word),
            false => keyword == word,
        };
        word.len() <= 16 && self.keywords.split(' ').any(is_same)
    }
}

const fn quote(sign: &'static str, has_escapes: bool, is_multiline: bool) -> Quote {
    Quote {
        open: sign,
        close: sign,
        has_escapes,
        is_multiline,
        is_char: false,
    }
}

const DOUBLE: Quote = quote("\"", true, false);
const SINGLE: Quote = quote("'", true, false);
const DOUBLE_LONG: Quote = quote("\"", true, true);
const BACKTICK: Quote = quote("`", true, true);
const PLAIN_SINGLE: Quote = quote("'", false, true);
const THREE_DOUBLE: Quote = quote("\"\"\"", true, true);
const THREE_SINGLE: Quote = quote("'''", true, true);
const CHAR: Quote = Quote {
    is_char: true,
    ..SINGLE
};

const SLASHES: &[&str] = &["//"];
const HASH: &[&str] = &["#"];
const SLASH_STAR: &[(&str, &str)] = &[("/*", "*/")];

/// What most others are like: C without its words.
const BASE: Language = Language {
    names: &[],
    kind: Kind::Code,
    keywords: "",
    ignores_case: false,
    line_comments: SLASHES,
    comment_after_space: false,
    block_comments: SLASH_STAR,
    quotes: &[DOUBLE, SINGLE],
    word_signs: "",
    sigils: "",
    key_sign: None,
};

const SCRIPT: Language = Language {
    line_comments: HASH,
    block_comments: &[],
    ..BASE
};

/// All of them; the first that has a name is the one.
pub(super) static LANGUAGES: &[Language] = &[
    Language {
        names: &["python", "py", "python3", "pycon", "ipython"],
        keywords: "and as assert async await break case class continue def del elif else except finally for from global if import in is lambda match nonlocal not or pass raise return try while with yield None True False self",
        quotes: &[THREE_DOUBLE, THREE_SINGLE, DOUBLE, SINGLE],
        sigils: "@",
        ..SCRIPT
    },
    Language {
        names: &[
            "javascript",
            "js",
            "jsx",
            "mjs",
            "node",
            "typescript",
            "ts",
            "tsx",
        ],
        keywords: "abstract any as async await boolean break case catch class const continue debugger declare default delete do else enum export extends false finally for from function get if implements import in instanceof interface let new null number of private protected public readonly return set static string super switch this throw true try type typeof undefined var void while with yield",
        quotes: &[DOUBLE, SINGLE, BACKTICK],
        word_signs: "$",
        sigils: "@",
        ..BASE
    },
    Language {
        names: &["rust", "rs"],
        keywords: "as async await bool break char const continue crate dyn else enum extern f32 f64 false fn for i16 i32 i64 i8 if impl in isize let loop match mod move mut pub ref return self Self static str String struct super trait true type u16 u32 u64 u8 unsafe use usize where while Some None Ok Err",
        quotes: &[DOUBLE_LONG, CHAR],
        sigils: "#",
        ..BASE
    },
    Language {
        names: &["go", "golang"],
        keywords: "any bool break byte case chan const continue default defer else error fallthrough false float64 for func go goto if import int int64 interface map nil package range return rune select string struct switch true type uint var",
        quotes: &[DOUBLE, CHAR, BACKTICK],
        ..BASE
    },
    Language {
        names: &["c", "h", "cpp", "c++", "cc", "cxx", "hpp", "cuda", "objc"],
        keywords: "auto bool break case catch char class concept const constexpr continue default delete do double else enum explicit extern false final float for friend goto if inline int long mutable namespace new noexcept nullptr NULL operator override private protected public register return short signed sizeof static struct switch template this throw true try typedef typename union unsigned using virtual void volatile while",
        quotes: &[DOUBLE, CHAR],
        sigils: "#@",
        ..BASE
    },
    Language {
        names: &["java", "kotlin", "kt", "scala", "groovy", "dart"],
        keywords: "abstract as assert boolean break byte case catch char class companion const continue data def default do double else enum extends extension false final finally float for fun get if implements import in instanceof int interface internal is late lazy long match mixin native new null object open override package private protected public record required return sealed set short static super switch synchronized this throw throws trait true try type val var void volatile when while with yield",
        quotes: &[THREE_DOUBLE, DOUBLE, SINGLE],
        sigils: "@",
        ..BASE
    },
    Language {
        names: &["csharp", "cs", "c#", "fsharp", "f#"],
        keywords: "abstract as async await base bool break byte case catch char class const continue decimal default delegate do double else enum event false finally float fun for foreach get if in int interface internal is let lock long match module namespace new null object of open out override params private protected public readonly record ref return sealed set short static string struct switch then this throw true try type using var virtual void when where while with yield",
        quotes: &[THREE_DOUBLE, DOUBLE, CHAR],
        sigils: "#",
        ..BASE
    },
    Language {
        names: &["swift"],
        keywords: "actor any as associatedtype async await break case catch class continue default defer deinit do else enum extension fallthrough false fileprivate for func get guard if import in init inout internal is lazy let mutating nil open override private protocol public repeat rethrows return self Self set some static struct subscript super switch throw throws true try typealias var weak where while",
        quotes: &[THREE_DOUBLE, DOUBLE],
        sigils: "@#",
        ..BASE
    },
    Language {
        names: &["php"],
        keywords: "abstract and array as break callable case catch class clone const continue declare default do echo else elseif empty enum extends false final finally fn for foreach function global if implements include instanceof interface isset list match namespace new null or print private protected public readonly require return static switch this throw trait true try unset use var while yield",
        line_comments: &["//", "#"],
        sigils: "$",
        ..BASE
    },
    Language {
        names: &["ruby", "rb"],
        keywords: "alias and begin break case class def defined do else elsif end ensure extend false for if in include lambda module next nil not or private proc protected public puts raise redo require rescue retry return self super then true undef unless until when while yield",
        word_signs: "?!",
        sigils: "@$:",
        comment_after_space: true,
        ..SCRIPT
    },
    Language {
        names: &["perl", "pl"],
        keywords: "and cmp die do else elsif eq eval for foreach ge gt if keys last le local lt my ne next no not or our package print push qw redo return say shift sub undef unless until use while",
        sigils: "$@%",
        comment_after_space: true,
        ..SCRIPT
    },
    Language {
        names: &[
            "bash",
            "sh",
            "shell",
            "zsh",
            "fish",
            "console",
            "terminal",
            "shell-session",
            "shellscript",
        ],
        keywords: "alias break case cd continue do done echo elif else esac exit export fi for function if in local printf read readonly return select set shift source sudo test then trap unset until while",
        quotes: &[DOUBLE_LONG, PLAIN_SINGLE],
        word_signs: "-",
        sigils: "$",
        comment_after_space: true,
        ..SCRIPT
    },
    Language {
        names: &["powershell", "ps1", "pwsh"],
        keywords: "begin break catch class continue data do else elseif end enum exit filter finally for foreach function if in param process return switch throw trap try until using while",
        ignores_case: true,
        block_comments: &[("<#", "#>")],
        quotes: &[
            Quote {
                has_escapes: false,
                ..DOUBLE_LONG
            },
            PLAIN_SINGLE,
        ],
        word_signs: "-",
        sigils: "$",
        ..SCRIPT
    },
    Language {
        names: &[
            "sql",
            "mysql",
            "postgresql",
            "postgres",
            "psql",
            "plsql",
            "sqlite",
            "tsql",
        ],
        keywords: "add all alter and as asc avg begin between bigint boolean by cascade case check column commit constraint count create cross date default delete desc distinct drop else end except exists false foreign from full function grant group having if in index inner insert int integer intersect interval into is join key left like limit max min not null numeric offset on or order outer over partition primary references returning right rollback row_number rows select serial set sum table text then timestamp to true truncate union unique update using values varchar view when where with",
        ignores_case: true,
        line_comments: &["--"],
        quotes: &[
            Quote {
                has_escapes: false,
                ..DOUBLE
            },
            PLAIN_SINGLE,
        ],
        ..BASE
    },
    Language {
        names: &["r", "rlang"],
        keywords: "break else FALSE for function if in Inf library NA NaN next NULL repeat require return TRUE while",
        word_signs: ".",
        ..SCRIPT
    },
    Language {
        names: &["julia", "jl"],
        keywords: "abstract baremodule begin break catch const continue do else elseif end export false finally for function global if import in let local macro module mutable nothing quote return struct true try using where while",
        block_comments: &[("#=", "=#")],
        quotes: &[THREE_DOUBLE, DOUBLE, CHAR],
        word_signs: "!",
        sigils: "@",
        ..SCRIPT
    },
    Language {
        names: &["matlab", "octave"],
        keywords: "break case catch classdef continue else elseif end endfunction for function global if otherwise parfor persistent return switch try while true false",
        line_comments: &["%", "#"],
        block_comments: &[("%{", "%}")],
        quotes: &[DOUBLE],
        ..BASE
    },
    Language {
        names: &["lua"],
        keywords: "and break do else elseif end false for function goto if in local nil not or repeat return then true until while",
        line_comments: &["--"],
        block_comments: &[("--[[", "]]")],
        ..BASE
    },
    Language {
        names: &["haskell", "hs", "elm", "purescript"],
        keywords: "as case class data default deriving do else exposing forall foreign hiding if import in infix infixl infixr instance let module newtype of port qualified then type where True False Nothing Just",
        line_comments: &["--"],
        block_comments: &[("{-", "-}")],
        quotes: &[DOUBLE, CHAR],
        word_signs: "'",
        ..BASE
    },
    Language {
        names: &["ocaml", "ml", "reason", "sml"],
        keywords: "and as assert begin class do done else end exception external false for fun function functor if in include inherit let match method module mutable new object of open or private rec sig struct then to true try type val virtual when while with",
        line_comments: &[],
        block_comments: &[("(*", "*)")],
        quotes: &[DOUBLE_LONG, CHAR],
        ..BASE
    },
    Language {
        names: &["elixir", "ex", "exs", "erlang", "erl"],
        keywords: "after and case catch cond def defmodule defp defstruct do else end false fn for if import in nil not or quote raise receive require rescue true try unless use when with",
        quotes: &[THREE_DOUBLE, DOUBLE, SINGLE],
        word_signs: "?!",
        sigils: "@:",
        ..SCRIPT
    },
    Language {
        names: &[
            "lisp",
            "clojure",
            "clj",
            "scheme",
            "racket",
            "elisp",
            "common-lisp",
        ],
        keywords: "and begin case cond def defmacro define defn defun do else fn for if lambda let let* letrec loop nil not or quote recur require set! t true false unless when",
        line_comments: &[";"],
        block_comments: &[("#|", "|#")],
        quotes: &[DOUBLE_LONG],
        word_signs: "-*!?+/<>=.",
        sigils: ":",
        ..BASE
    },
    Language {
        names: &[
            "solidity",
            "sol",
            "zig",
            "v",
            "pascal",
            "delphi",
            "verilog",
            "systemverilog",
            "glsl",
            "hlsl",
            "wgsl",
        ],
        keywords: "address and array begin bool break case const contract continue do else elsif emit end enum error event false for function if import in int integer is let loop memory mapping module mov mut not nil null of or payable private procedure process program proc pub public pure return returns signal string struct subroutine switch then to true try type uint uint256 until use var view void when while with",
        ignores_case: true,
        quotes: &[DOUBLE, CHAR],
        ..BASE
    },
    Language {
        names: &["asm", "assembly", "nasm", "wasm", "wat", "llvm"],
        line_comments: &[";"],
        sigils: "%$.",
        ..BASE
    },
    Language {
        names: &["json", "jsonc", "json5", "jsonl", "ndjson", "geojson"],
        keywords: "true false null",
        key_sign: Some(':'),
        ..BASE
    },
    Language {
        names: &["yaml", "yml"],
        keywords: "true false null yes no on off",
        word_signs: "-.",
        comment_after_space: true,
        key_sign: Some(':'),
        ..SCRIPT
    },
    Language {
        names: &[
            "toml",
            "ini",
            "cfg",
            "conf",
            "properties",
            "dotenv",
            "env",
            "editorconfig",
        ],
        keywords: "true false on off yes no",
        line_comments: &["#", ";"],
        quotes: &[THREE_DOUBLE, DOUBLE, SINGLE],
        word_signs: "-.",
        comment_after_space: true,
        key_sign: Some('='),
        ..SCRIPT
    },
    Language {
        names: &["dockerfile", "docker", "containerfile"],
        keywords: "FROM RUN CMD LABEL EXPOSE ENV ADD COPY ENTRYPOINT VOLUME USER WORKDIR ARG ONBUILD STOPSIGNAL HEALTHCHECK SHELL AS",
        word_signs: "-",
        sigils: "$",
        comment_after_space: true,
        ..SCRIPT
    },
    Language {
        names: &[
            "makefile",
            "make",
            "cmake",
            "just",
            "nginx",
            "apache",
            "terraform",
            "hcl",
            "tf",
            "nix",
        ],
        keywords: "else endef endif export define if ifdef ifeq ifndef ifneq include for in function endfunction foreach let with resource variable output module provider data locals true false null",
        word_signs: "-",
        sigils: "$",
        comment_after_space: true,
        ..SCRIPT
    },
    Language {
        names: &["css", "scss", "sass", "less"],
        keywords: "auto block bold flex grid inherit initial none normal solid important from to",
        line_comments: &[],
        word_signs: "-",
        sigils: "@#.$",
        key_sign: Some(':'),
        ..BASE
    },
    Language {
        names: &[
            "html",
            "xml",
            "svg",
            "xhtml",
            "vue",
            "svelte",
            "mathml",
            "rss",
            "plist",
            "xsl",
            "jinja",
            "handlebars",
            "ejs",
        ],
        kind: Kind::Markup,
        ..BASE
    },
    Language {
        names: &["diff", "patch"],
        kind: Kind::Diff,
        ..BASE
    },
    Language {
        names: &["latex", "tex", "bibtex"],
        line_comments: &["%"],
        block_comments: &[],
        quotes: &[],
        sigils: "\\",
        ..BASE
    },
    Language {
        names: &["graphql", "gql", "protobuf", "proto", "thrift"],
        keywords: "bool bytes double enum extend false float fragment import input int32 int64 interface map message mutation on oneof option optional package query repeated required returns rpc scalar schema service string subscription syntax true type uint32 uint64 union",
        line_comments: &["//", "#"],
        quotes: &[THREE_DOUBLE, DOUBLE, SINGLE],
        sigils: "@$",
        key_sign: Some(':'),
        ..BASE
    },
];
