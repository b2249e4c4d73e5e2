//! How each family splits its text into words: the names of `tokenizer.ggml.pre` and what they mean.
//!
//! The patterns are those the models were trained with, as the reference runs them. It treats letters (`\p{L}`) as one
//! class, so where a tokenizer's own file distinguishes upper and lower case beyond ASCII, that distinction is lost
//! here too. The look-ahead `\s+(?!\S)` ("white space, but leave the last one to the word that follows") is expressed
//! by [`Spare`] instead, so that the patterns run on a linear-time engine.

use Spare::{Always, Halving, Never, UnlessLine};
use Step::{DigitsByThree, LeadAndDigitsByThree, Match};

/// One splitting step; several are applied one after the other, to ever smaller pieces.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// Matches become pieces, and so does the text between them.
    Match(&'static str, Spare),
    /// Splits runs of ASCII digits into threes, counted from the right.
    DigitsByThree,
    /// The same for digits of any script; the first piece of a run includes the text before the run.
    LeadAndDigitsByThree,
}

/// Which matches that are all white space leave their last character to the next word.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Spare {
    Never,
    /// All.
    Always,
    /// Those that do not end in a line break; those that do come from another alternative of the pattern.
    UnlessLine,
    /// Like `UnlessLine`, and a long one is split into powers of two, from 512 down.
    Halving,
}

/// What a name implies besides its steps.
#[derive(Clone, Copy, PartialEq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a habit of its own")]
pub(super) struct Habits {
    /// A word that is a token needs no merging.
    pub(super) whole_words: bool,
    /// Texts begin with BOS if the file does not say.
    pub(super) adds_bos: bool,
    /// Texts begin with BOS whatever the file says.
    pub(super) always_bos: bool,
    /// Tokens are stored as plain text: spaces as U+2581, bytes without a token as `<0x0A>`.
    pub(super) raw: bool,
    /// A run of line breaks that is a token needs no merging.
    pub(super) whole_lines: bool,
}

const PLAIN: Habits = Habits {
    whole_words: false,
    adds_bos: false,
    always_bos: false,
    raw: false,
    whole_lines: false,
};
const WHOLE_WORDS: Habits = Habits { whole_words: true, ..PLAIN };
const WHOLE_WORDS_AND_BOS: Habits = Habits { adds_bos: true, ..WHOLE_WORDS };
const ADDS_BOS: Habits = Habits { adds_bos: true, ..PLAIN };
const RAW: Habits = Habits { raw: true, ..PLAIN };
const GEMMA4: Habits = Habits { always_bos: true, whole_lines: true, ..RAW };

/// The steps and habits of a name.
pub(super) fn known(name: &str) -> Option<(&'static [Step], Habits)> {
    let row = KNOWN.iter().find(|(names, ..)| names.contains(&name))?;
    Some((row.1, row.2))
}

/// All names.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().flat_map(|(names, ..)| names.iter().copied())
}

/// 's, 't and so on, in any case.
macro_rules! contraction {
    () => {
        r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
    };
}

/// Llama 3's pattern: contractions, words, numbers as given, signs, lines, white space.
macro_rules! words {
    ($number:literal) => {
        concat!(
            contraction!(),
            r"|[^\r\n\p{L}\p{N}]?\p{L}+|",
            $number,
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
        )
    };
}

/// GPT-4o's pattern: words with a contraction at their end, numbers as given, signs, lines, white space.
macro_rules! words_with_endings {
    ($word:literal, $number:literal) => {
        concat!($word, contraction!(), "?|", $number, r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+")
    };
}

/// DeepSeek 3's pattern: signs that begin a word, words with combining marks, then the given rest.
macro_rules! signs_and_words {
    ($rest:literal) => {
        concat!(
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
            $rest
        )
    };
}

const GPT2: Step =
    Match(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+", Always);
const LLAMA3: Step = Match(words!(r"\p{N}{1,3}"), UnlessLine);
const QWEN2: Step = Match(words!(r"\p{N}"), UnlessLine);
const DIGIT: Step = Match(r"\p{N}", Never);
const DIGITS: Step = Match(r"\p{N}+", Never);
const DIGITS_TO_3: Step = Match(r"\p{N}{1,3}", Never);
const THREE_DIGITS: Step = Match("[0-9][0-9][0-9]", Never);
const LINE: Step = Match(r"[\r\n]", Never);
const LINES: Step = Match(r"[^\n]+|\n+", Never);
const CHINESE: Step = Match(r"[一-龥\u{3040}-ゟ゠-ヿ]+", Never);
/// `&&\S` keeps Unicode spaces out of the wide range; the reference treats them as plain spaces.
const EAST_ASIAN: Step = Match(r"[[一-龥\u{800}-一\u{AC00}-\u{D7FF}]&&\S]+", Never);
const SENTENCE: Step = Match(r" ?[^(\s|.,!?…。，、।۔،)]+", Never);
const DEEPSEEK3: &[Step] = &[
    DIGITS_TO_3,
    CHINESE,
    Match(signs_and_words!(r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+"), UnlessLine),
];
const GPT4O: &[Step] = &[Match(
    concat!(
        r"[^\r\n\p{L}\p{N}]?[\p{L}&&[^a-z]]*[\p{L}&&[^A-Z]]+",
        contraction!(),
        "?|",
        words_with_endings!(r"[^\r\n\p{L}\p{N}]?[\p{L}&&[^a-z]]+[\p{L}&&[^A-Z]]*", r"\p{N}{1,3}")
    ),
    UnlessLine,
)];

/// `tokenizer.ggml.pre`: names, steps, habits.
const KNOWN: &[(&[&str], &[Step], Habits)] = &[
    (
        &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "exaone4",
            "roberta-bpe",
            "granite-docling",
            "jina-es",
            "jina-de",
            "jina-v1-en",
            "jina-v2-code",
            "jina-v2-de",
            "jina-v2-es",
        ],
        &[GPT2],
        PLAIN,
    ),
    (
        &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
        &[DIGIT, GPT2],
        PLAIN,
    ),
    (
        &[
            "qwen2",
            "deepseek-r1-qwen",
            "kormo",
            "f2llmv2",
            "stablelm2",
            "megrez",
            "hunyuan",
            "solar-open",
            "grok-2",
            "bailingmoe",
            "bailingmoe2",
            "llada-moe",
        ],
        &[QWEN2],
        PLAIN,
    ),
    (
        &["qwen35"],
        &[Match(
            concat!(
                contraction!(),
                r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
            ),
            UnlessLine,
        )],
        PLAIN,
    ),
    (
        &["ufakzeka"],
        &[Match(
            r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
            UnlessLine,
        )],
        PLAIN,
    ),
    (&["laguna"], &[LINES, QWEN2], PLAIN),
    (
        &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
        ],
        &[LLAMA3],
        WHOLE_WORDS_AND_BOS,
    ),
    (&["glm4", "glm5"], &[LLAMA3], WHOLE_WORDS),
    (&["dbrx", "smaug-bpe", "chatglm-bpe"], &[LLAMA3], PLAIN),
    (&["minicpm5"], &[DIGITS_TO_3, Match(words!(r"\p{N}+"), UnlessLine)], WHOLE_WORDS),
    (&["jais-2"], &[Match(words!(r"\p{N}{1,3}"), Halving)], PLAIN),
    (&["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], GPT4O, PLAIN),
    (
        &["granite-embed-multi-97m"],
        &[Match(
            concat!(
                r"[^\r\n\p{L}\p{N}]?[[\p{L}\p{M}]&&[^a-z]]*[[\p{L}\p{M}]&&[^A-Z]]+",
                contraction!(),
                "?|",
                words_with_endings!(
                    r"[^\r\n\p{L}\p{N}]?[[\p{L}\p{M}]&&[^a-z]]+[[\p{L}\p{M}]&&[^A-Z]]*",
                    r"\p{N}{1,3}"
                )
            ),
            UnlessLine,
        )],
        WHOLE_WORDS,
    ),
    (
        &["tekken"],
        &[Match(
            r"[^\r\n\p{L}\p{N}]?[\p{L}&&[^a-z]]*[\p{L}&&[^A-Z]]+|[^\r\n\p{L}\p{N}]?[\p{L}&&[^a-z]]+[\p{L}&&[^A-Z]]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+",
            UnlessLine,
        )],
        WHOLE_WORDS_AND_BOS,
    ),
    (
        &["tiny_aya", "cohere2moe"],
        &[
            LeadAndDigitsByThree,
            Match(
                words_with_endings!(r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+", r"\p{N}{1,3}"),
                UnlessLine,
            ),
        ],
        PLAIN,
    ),
    (
        &["youtu"],
        &[
            Match(
                r"[\u{AC00}-\u{D7A3}\u{3131}-\u{318E}]+|[！…“”‘’—：；，、-\u{303F}\u{FE30}-\u{FE4F}]+|[\u{3105}-\u{312F}]+|[一-龥\u{3040}-ゟ゠-ヿ]+",
                Never,
            ),
            Match(words_with_endings!(r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+", r"\p{N}"), UnlessLine),
        ],
        WHOLE_WORDS,
    ),
    (
        &["kimi-k2"],
        &[Match(
            concat!(
                r"[\u{4E00}-\u{9FFF}\u{3400}-\u{4DBF}\u{20000}-\u{2A6DF}\u{2A700}-\u{2EBEF}\u{F900}-\u{FAFF}\u{2F800}-\u{2FA1F}]+|",
                r"[^\r\n\p{L}\p{N}]?[\p{L}&&[^\u{4E00}-\u{9FFF}\u{3400}-\u{4DBF}\u{20000}-\u{2A6DF}\u{2A700}-\u{2EBEF}\u{F900}-\u{FAFF}\u{2F800}-\u{2FA1F}]]+",
                contraction!(),
                r"?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
            ),
            UnlessLine,
        )],
        PLAIN,
    ),
    (
        &["exaone-moe"],
        &[Match(
            concat!(
                contraction!(),
                r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+"
            ),
            UnlessLine,
        )],
        PLAIN,
    ),
    (
        &["seed-coder"],
        &[Match(
            concat!(
                contraction!(),
                r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+"
            ),
            UnlessLine,
        )],
        PLAIN,
    ),
    (&["deepseek-v3", "hunyuan-dense", "hy_v4", "joyai-llm"], DEEPSEEK3, PLAIN),
    (
        &["spark2_5"],
        &[
            DIGITS_TO_3,
            CHINESE,
            Match(signs_and_words!(r"| ?[\p{P}\p{S}]+|[\r\n]|\s+"), Always),
            DIGIT,
        ],
        PLAIN,
    ),
    (
        &["afmoe"],
        &[
            LeadAndDigitsByThree,
            // From U+8C48 rather than U+F900, as in the reference: the two look alike.
            Match(
                r"[\u{4E00}-\u{9FFF}\u{3400}-\u{4DBF}\u{8C48}-\u{FAFF}\u{3040}-\u{30FF}\u{FF65}-\u{FF9F}\u{2F00}-\u{2FDF}\u{E40}-\u{EFF}\u{1780}-\u{17FF}\u{1000}-\u{109F}\u{AA60}-\u{AA7F}\u{A9E0}-\u{A9FF}\u{AC00}-\u{D7AF}\u{1100}-\u{11FF}]+",
                Never,
            ),
            Match(signs_and_words!(r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+"), UnlessLine),
        ],
        PLAIN,
    ),
    (
        &["deepseek-llm"],
        &[
            LINE,
            // Cased letters, as of an older version of Unicode.
            Match(
                r"\s?[A-Za-z\u{B5}\u{C0}-\u{D6}\u{D8}-\u{F6}\u{F8}-\u{1BA}\u{1BC}-\u{1BF}\u{1C4}-\u{293}\u{295}-\u{2AF}\u{370}-\u{373}\u{376}\u{377}\u{37B}-\u{37D}\u{37F}\u{386}\u{388}-\u{38A}\u{38C}\u{38E}-\u{3A1}\u{3A3}-\u{3F5}\u{3F7}-\u{481}\u{48A}-\u{52F}\u{531}-\u{556}\u{10A0}-\u{10C5}\u{13A0}-\u{13F5}\u{13F8}-\u{13FD}\u{1C90}-\u{1CBA}\u{1CBD}-\u{1CBF}\u{1D00}-\u{1D2B}\u{1D6B}-\u{1D77}\u{1D79}-\u{1D9A}\u{1E00}-\u{1F15}\u{1F18}-\u{1F1D}\u{1F20}-\u{1F45}\u{1F48}-\u{1F4D}\u{1F50}-\u{1F57}\u{1F59}\u{1F5B}\u{1F5D}\u{1F5F}-\u{1F7D}\u{1F80}-\u{1FB4}\u{1FB6}-\u{1FBC}\u{1FBE}\u{1FC2}-\u{1FC4}\u{1FC6}-\u{1FCC}\u{1FD0}-\u{1FD3}\u{1FD6}-\u{1FDB}\u{1FE0}-\u{1FEC}\u{1FF2}-\u{1FF4}\u{1FF6}-\u{1FFC}\u{2102}\u{2107}\u{210A}-\u{2113}\u{2115}\u{2119}-\u{211D}\u{2124}\u{2126}\u{2128}\u{212A}-\u{212D}\u{212F}-\u{2134}\u{2139}\u{213C}-\u{213F}\u{2145}-\u{2149}\u{214E}\u{2183}\u{2184}\u{2C00}-\u{2C7B}\u{2C7E}-\u{2CE4}\u{2CEB}-\u{2CEE}\u{2CF2}\u{2CF3}\u{A640}-\u{A66D}\u{A680}-\u{A69B}\u{A722}-\u{A76F}\u{A771}-\u{A787}\u{A78B}-\u{A78E}\u{AB70}-\u{ABBF}\u{FB00}-\u{FB06}\u{FB13}-\u{FB17}\u{FF21}-\u{FF3A}\u{FF41}-\u{FF5A}\u{10400}-\u{1044F}\u{104B0}-\u{104D3}\u{104D8}-\u{104FB}\u{10C80}-\u{10CB2}\u{10CC0}-\u{10CF2}\u{118A0}-\u{118DF}\u{1E900}-\u{1E943}]+",
                Never,
            ),
            Match(
                r"\s?[!-/:-~\u{FF01}-\u{FF0F}\u{FF1A}-\u{FF5E}\u{2018}-\u{201F}\u{3001}\u{3002}]+",
                Never,
            ),
            Match(r"\s+$", Never),
            EAST_ASIAN,
            DIGITS,
        ],
        PLAIN,
    ),
    (
        &["deepseek-coder"],
        &[LINE, Match(r"\s?\p{L}+", Never), Match(r"\s?\p{P}+", Never), EAST_ASIAN, DIGIT],
        PLAIN,
    ),
    (&["poro-chat", "bloom", "gpt3-finnish"], &[SENTENCE], PLAIN),
    (&["viking"], &[SENTENCE, DIGIT], PLAIN),
    (&["superbpe"], &[DIGITS, DigitsByThree], PLAIN),
    (
        &["chameleon"],
        &[
            Match("<sentinel:[0-9]+>", Never),
            Match("IMGIMG[A-I]{1,4}Z", Never),
            Match(r"[\t\n]|    |  ", Never),
            DIGIT,
            Match(r"[\p{P}!-/:-@\[-`{-~]", Never),
            GPT2,
        ],
        ADDS_BOS,
    ),
    (&["falcon"], &[Match(r"[\p{P}$+<=>^~|`]+", Never), GPT2, THREE_DIGITS], PLAIN),
    (&["default"], &[Match(r"[\p{P}$+<=>^~|]+", Never), GPT2, DIGITS, THREE_DIGITS], PLAIN),
    (&["gemma4", "granite-embed-multi-311m"], &[LINES], GEMMA4),
    (&["sarvam-moe"], &[LINES], RAW),
];
