"""Makes tests/golden/jinja.json: what Jinja2 makes of each filter, test, method, operator and statement.

    python3 -m venv v && v/bin/pip install jinja2==3.1.6
    v/bin/python tests/golden/jinja.py tests/golden/jinja.json

Each row is a template and its output under the settings of `transformers` (those of templates.py beside this file); `null`
where Jinja2 itself fails. The rows cover all of Jinja2's filters and tests and Python's methods of strings, lists and
dictionaries that a template can call, with the arguments and the odd values (undefined, none, negative, empty, Unicode) for
which implementations differ. Left out: what draws random numbers, prints addresses or depends on the order of a set.
"""

import json
import sys
from pathlib import Path

import jinja2
from templates import Refused, compiled

# What every template sees.
VALUES = {
    "messages": [
        {"role": "user", "content": "Hi  there,\nWörld!"},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1, "y": [True, None]}}}]},
    ],
    "n": None, "t": True, "f": False, "i": 7, "neg": -3, "big": 123456789012345678901234567890, "x": 2.5, "whole": 3.0, "tiny": 1e-7,
    "huge": 1e22, "s": "abc", "empty": "", "uni": "Größe ∑ ÉÇ 日本", "ws": "  a\tb \n", "lines": "one\ntwo\r\nthree\n\n four",
    "quote": "it's \"q\" \\ back", "html": "<a href='x'>T&amp;</a>",
    "l": [3, 1, 2], "ls": ["b", "a", "C"], "nested": [[1, 2], [3], []], "none_list": [None, 0, "", "z", False],
    "d": {"b": 1, "a": "two", "C": None}, "rows": [{"k": "x", "v": 2}, {"k": "y", "v": 1}, {"k": "x", "v": 3}], "de": {}, "le": [],
}

# `⏎` and `␍` stand for a line feed and a carriage return of the template.
OPERATORS = r"""
{{ 1 + 2 }} {{ 5 - 7 }} {{ 3 * 4 }} {{ 7 / 2 }} {{ 8 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 2 ** 10 }}
{{ +3 }}
{{ +i }} {{ -i }} {{ - -i }} {{ 1 + +2 }} {{ 1 - -2 }} {{ [+1, -1] }} {{ (+1) }}
{{ 2 ** -1 }}
{{ 2 ** 3 ** 2 }}
{{ -2 ** 2 }}
{{ 7.5 % 2 }} {{ 7.5 // 2 }} {{ -7.5 // 2 }}
{{ 1 / 3 }}
{{ 0.1 + 0.2 }}
{{ 1e3 }} {{ 1.5e-3 }} {{ 1_000 }} {{ 0x1f }} {{ 0b101 }} {{ 0o17 }}
{{ big + 1 }}
{{ big * 2 }}
{{ x }} {{ whole }} {{ tiny }} {{ huge }} {{ 1e16 }} {{ 123456.789 }} {{ 1e15 }}
{{ 'a' ~ 1 ~ none ~ true ~ 2.0 ~ [1] }}
{{ 'a' + 'b' }}
{{ 'ab' * 3 }} {{ 3 * 'ab' }} {{ 'ab' * 0 }} {{ 'ab' * -1 }}
{{ [1] + [2] }} {{ [1, 2] * 2 }}
{{ (1, 2) + (3,) }}
{{ (1,) }} {{ (1, 2) }} {{ () }}
{{ '%s-%d' % ('a', 3) }}
{{ '%s' % 'x' }} {{ 'n: %d%%' % 5 }} {{ '%05.2f|%-6s|%+d|%x|%X|%o|%c|%r' % (3.14159, 'ab', 4, 255, 255, 8, 'z', 'q') }}
{{ '%s' % none }} {{ '%s' % [1, 'a'] }} {{ '%s %s' % (1, {'a': 1}) }}
{{ '%(b)s/%(a)s' % d }}
{{ '%s' % s|upper }}
{{ 'a%sb' % i ~ '!' }}
{{ '%e %g %G %i' % (12345.678, 0.00001, 1e20, 42) }}
{{ '%.3s|%5s|%-5s|' % ('abcdef', 'ab', 'cd') }}
{{ '%*d' % (5, 42) }}
{{ 10 % 4 * 2 }} {{ 2 * 10 % 4 }} {{ 10 % 4 % 2 }} {{ 1 + 10 % 4 }} {{ -10 % 4 }} {{ 2 ** 3 % 5 }}
{{ l[0] % 2 == 1 }} {{ messages|length % 2 }} {{ (i + 1) % 2 }} {{ messages[0].content|length % 5 }}
{% for m in l %}{{ loop.index0 % 2 == 0 }}{% endfor %}
{{ 1 < 2 }} {{ 1 < 2 < 3 }} {{ 3 > 2 >= 2 }} {{ 1 == 1.0 }} {{ '1' == 1 }} {{ none == false }} {{ true == 1 }} {{ 1 != 2 }}
{{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }} {{ 'B' < 'a' }}
{{ 'b' in 'abc' }} {{ 'z' not in 'abc' }} {{ 1 in l }} {{ 'a' in d }} {{ none in none_list }} {{ '' in 'abc' }}
{{ not t }} {{ t and f }} {{ f or 'x' }} {{ '' or 0 }} {{ 'a' and 'b' }} {{ not '' }} {{ not [] and 1 }}
{{ 'y' if t else 'n' }} {{ 'y' if f }}|{{ 1 if l else 2 }}
{{ s[0] }}{{ s[-1] }}{{ s[1:] }}{{ s[:-1] }}{{ s[::-1] }}{{ uni[1:4] }}{{ s[10:] }}
{{ l[1:] }} {{ l[-2:] }} {{ l[::2] }} {{ l[::-1] }} {{ l[5:] }}
{{ d['b'] }} {{ d.a }} {{ d.nope }}|{{ d['nope'] }}|{{ l[9] }}|{{ s.nope }}
{{ nope }}|{{ nope is defined }}|{{ nope == none }}|{{ nope or 'd' }}|{{ not nope }}
{{ [1, 'a', none, true, 2.0, {'k': (1,)}] }}
{{ {'a': 1, 2: 'b', none: [], 'q': "it's"} }}
{{ quote }} {{ [quote] }} {{ ['it\'s'] }} {{ ['"'] }} {{ ['\n\t\\'] }} {{ ['é\u200b'] }}
{{ "a\nb\t\x41\u00e9\'" }}
{{ 'a' 'b' }}
{{ d }} {{ messages }}
{{ (1 + 2) * 3 }} {{ 2 + 3 * 4 }} {{ 2 * 3 ~ 'a' }} {{ 1 ~ 2 + 3 }}
{{ i is odd and not i is even }}
{{ nope|default('x') ~ 'y' }}
{{ l|length > 2 and l|first == 3 }}
{{ -l|length }}
{{ (l|sort)[0] }} {{ d.items()|list }} {{ messages[-1]['tool_calls'][0].function.arguments.y }}
{{ true }} {{ True }} {{ none }} {{ None }} {{ false }} {{ False }}
"""

STATEMENTS = r"""
{% for x in l %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.revindex }}/{{ loop.revindex0 }}/{{ loop.first }}/{{ loop.last }}/{{ loop.length }};{% endfor %}
{% for x in l %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }};{% endfor %}
{% for x in l %}{{ loop.cycle('a', 'b') }}{% endfor %}
{% for x in [1, 1, 2] %}{{ loop.changed(x) }};{% endfor %}
{% for x in le %}{{ x }}{% else %}none{% endfor %}
{% for x in l if x > 1 %}{{ x }}{{ loop.last }};{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}
{% for k in d %}{{ k }};{% endfor %}
{% for a, b in [[1, 2], [3, 4]] %}{{ a + b }};{% endfor %}
{% for c in 'héy' %}{{ c }}.{% endfor %}
{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}
{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% for x in l %}{% for y in ls %}{{ loop.index }}{{ y }}{% endfor %}{{ loop.index }};{% endfor %}
{% for n in nested recursive %}{{ n if n is number else '(' ~ loop(n) ~ ')' }},{% endfor %}
{% for n in nested recursive %}{{ loop.depth }}{{ loop.depth0 }}{% endfor %}
{% for x in nope %}{{ x }}{% else %}e{% endfor %}
{% for i in range(3) %}{{ i }}{% endfor %}|{% for i in range(2, 8, 3) %}{{ i }}{% endfor %}|{{ range(3)|list }}|{{ range(3, 0, -1)|list }}|{{ range(0)|list }}
{% set a = 1 %}{{ a }}{% set a = a + 1 %}{{ a }}
{% set a, b = 1, 2 %}{{ a }}{{ b }}
{% set ns = namespace(v=1, w='x') %}{% for x in l %}{% set ns.v = ns.v + x %}{% endfor %}{{ ns.v }}{{ ns.w }}
{% set ns = namespace({'v': 1}) %}{{ ns.v }}{{ ns.nope }}
{% set x %}a{{ i }}b{% endset %}{{ x }}
{% set x | upper %}ab{% endset %}{{ x }}
{% for x in l %}{% set q = x %}{% endfor %}{{ q }}
{% if f %}1{% elif i %}2{% else %}3{% endif %}
{% if n is none %}a{% endif %}{% if nope is not defined %}b{% endif %}
{% macro m(a, b='B', c=none) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}|{{ m(1, 2) }}|{{ m(1, c=3) }}|{{ m(b=1, a=2) }}|{{ m() }}
{% macro m() %}[{{ varargs }}{{ kwargs }}]{% endmacro %}{{ m(1, 2) }}{{ m(a=1) }}
{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}in{% endcall %}
{% macro m(x) %}<{{ caller(x) }}>{% endmacro %}{% call(y) m(5) %}in{{ y }}{% endcall %}
{% macro m(x) %}{{ x }}{% if x > 0 %}{{ m(x - 1) }}{% endif %}{% endmacro %}{{ m(3) }}
{% macro m(a) %}{% endmacro %}{{ m.name }} {{ m.arguments }}
{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a }}
{% filter upper %}ab{{ s }}{% endfilter %}
{% filter replace('a', 'x')|upper %}abc{% endfilter %}
{% raw %}{{ x }}{% y %}{% endraw %}
{# c #}a{#- c -#} b
{% if t %}␍⏎x␍⏎{% endif %}␍⏎y
a {%- if t %} b {% endif -%} c
  {% if t %}⏎  x⏎  {% endif %}⏎y
a⏎{{ i }}⏎b⏎
a{{- i -}} b
  {{ i }}  ⏎  {%+ if t %}x{% endif +%}  ⏎y
{% generation %}a{% endgeneration %}
{{ namespace(a=1).a }}
{{ dict(a=1, b=[2]) }}
{{ cycler('a', 'b').next() }}
{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}
{% set j = joiner(', ') %}{{ j() }}a{{ j() }}b{{ j() }}c
{% do l.append(4) %}{{ l }}
{{ raise_exception('no: ' ~ s) }}
{{ strftime_now('%Y-%m-%d %H:%M %b %B %a %j') }}
{% set l2 = l + [4] %}{{ l2 }}{{ l }}
{% for m in messages %}{{ m.role }}:{{ m.content if m.content is string else 'no' }};{% endfor %}
{% for m in messages[::-1] %}{{ m.role }};{% endfor %}
{% for m in messages|selectattr('role', 'equalto', 'user') %}{{ m.content }}{% endfor %}
{% set x = namespace(found=false) %}{% for m in messages %}{% if m.role == 'user' and not x.found %}{% set x.found = true %}{{ loop.index }}{% endif %}{% endfor %}{{ x.found }}
{% if messages[0]['content'] is string and not (messages[1].tool_calls is defined and messages[1].tool_calls is none) %}ok{% endif %}
{% if messages[0].tool_calls | length > 0 %}y{% else %}n{% endif %}
{{ messages[0].tool_calls }}|{{ messages[0].get('tool_calls') }}|{{ messages[0].get('tool_calls', []) }}
"""

# Each filter with its arguments, and the values it is tried on.
ON = ["n", "nope", "t", "i", "neg", "x", "s", "empty", "uni", "ws", "l", "le", "ls", "d", "de", "none_list"]
FILTERS = {
    "abs": ["i", "neg", "x"], "attr('a')": ["d", "nope"], "batch(2)|list": ["l", "le"], "batch(2, 'z')|list": ["l"], "capitalize": ON,
    "center(9)": ["s", "uni"], "count": ON, "length": ON, "default('D')": ON, "default('D', true)": ON, "d('D')": ["nope", "n"],
    "default": ["nope", "n"], "default(boolean=true, default_value='K')": ["n", "empty"],
    "dictsort": ["d", "de"], "dictsort(true)": ["d"], "dictsort(false, 'value')": ["{'a': 2, 'b': 1}"], "dictsort(reverse=true)": ["d"],
    "escape": ["html", "i", "nope"], "e": ["html"], "filesizeformat": ["i", "1000000", "123456789"], "filesizeformat(true)": ["1048576"],
    "first": ["l", "ls", "s", "le", "d"], "last": ["l", "ls", "s", "le"], "float": ["i", "x", "'3.5'", "'z'", "n", "nope"],
    "float(1.5)": ["'z'"], "int": ["x", "'42'", "'z'", "'4.7'", "n", "nope", "t", "neg"], "int(9)": ["'z'"], "int(0, 16)": ["'ff'", "'0x1f'"],
    "forceescape": ["html"], "format('a', 2)": ["'%s-%d'"], "format(a=1)": ["'%(a)s'"],
    "groupby('k')|list": ["rows"], "groupby('k')|map(attribute='list')|list": ["rows"], "groupby('z', default='q')|list": ["rows"],
    "indent": ["lines", "s", "empty", "nope"], "indent(2)": ["lines"], "indent(2, true)": ["lines", "s"], "indent(2, true, true)": ["lines"],
    "indent(first=true, blank=true)": ["lines"], "indent('> ')": ["lines"], "indent(width='--', first=true)": ["lines"],
    "items|list": ["d", "de", "nope"], "join": ["l", "ls", "le", "s", "nope"], "join(', ')": ["l", "ls", "none_list", "d", "nested"],
    "join('-', attribute='k')": ["rows"], "join('|', 'v')": ["rows"],
    "list": ["s", "l", "d", "le", "nope", "uni"], "lower": ON, "upper": ON, "title": ["s", "uni", "'hELLO wORLD-foo bar\\'s'", "nope", "n"],
    "map('upper')|list": ["ls"], "map(attribute='k')|list": ["rows"], "map(attribute='z')|list": ["rows"], "map(attribute='z', default='q')|list": ["rows"],
    "map('default', 'x')|list": ["none_list"], "map('int')|list": ["['1', '2']"], "map('length')|list": ["nested"], "map('first')|list": ["ls"],
    "map('replace', 'a', 'b')|list": ["ls"], "map(attribute='function.name')|list": ["messages[1].tool_calls"], "map('string')|join": ["l"],
    "map('trim')|list": ["[' a ']"], "map('tojson')|join(',')": ["rows"],
    "max": ["l", "ls", "le"], "min": ["l", "ls", "le"], "max(attribute='v')": ["rows"], "min(attribute='v')": ["rows"], "max(case_sensitive=true)": ["ls"],
    "pprint": ["l", "d", "s"], "reject('odd')|list": ["l"], "reject|list": ["none_list"], "rejectattr('v')|list": ["[{'v': 0}, {'v': 1}]"],
    "rejectattr('v', 'eq', 1)|list": ["rows"], "rejectattr('k', 'in', ['x'])|list": ["rows"], "replace('a', 'X')": ["s", "uni", "nope", "i"],
    "replace('', '-')": ["s"], "replace('b', '')": ["'abab'"], "replace('a', 'b', 2)": ["'aaa'"], "replace('a', 'b', count=1)": ["'aaa'"],
    "replace('a', 'b', 0)": ["'aaa'"], "replace(1, 2)": ["'112'"],
    "reverse": ["s", "uni"], "reverse|list": ["l", "le"], "round": ["x", "3.5", "-2.5", "i", "2.675"], "round(1)": ["2.25", "2.35"],
    "round(2)": ["2.675", "i"], "round(1, 'floor')": ["2.27", "-2.27"], "round(1, 'ceil')": ["2.21"], "round(method='ceil')": ["2.1"], "round(-1)": ["125.0"],
    "safe": ["html", "s"], "select('odd')|list": ["l"], "select|list": ["none_list"], "select('string')|list": ["none_list"],
    "select('in', [1, 2])|list": ["l"], "select('greaterthan', 1)|list": ["l"], "selectattr('v')|list": ["rows"],
    "selectattr('k', 'equalto', 'x')|list": ["rows"], "selectattr('k', '==', 'x')|map(attribute='v')|list": ["rows"], "selectattr('z', 'defined')|list": ["rows"],
    "selectattr('z', 'undefined')|list|length": ["rows"], "selectattr('v', 'gt', 1)|list|length": ["rows"],
    "slice(2)|list": ["l", "le"], "slice(2, 'z')|list": ["l"], "sort": ["l", "ls", "le", "'bca'"], "sort(reverse=true)": ["l", "ls"], "sort(true)": ["l"],
    "sort(case_sensitive=true)": ["ls"], "sort(attribute='v')": ["rows"], "sort(attribute='k,v')": ["rows"], "sort(false, true)": ["ls"],
    "string": ON + ["big", "huge", "rows"], "striptags": ["html", "'a <b>c</b>  d'"], "sum": ["l", "le", "[1.5, 2]"], "sum(attribute='v')": ["rows"],
    "sum(start=10)": ["l"], "sum(attribute='v', start=5)": ["rows"],
    "tojson": [o for o in ON if o != "nope"] + ["rows", "html", "quote", "big", "1e22", "0.1", "'\\x7f\\u2028'"],
    "tojson(indent=2)": ["d", "l", "le", "de", "nested"], "tojson(ensure_ascii=true)": ["uni"], "tojson(sort_keys=true)": ["d"],
    "tojson(separators=(',', ':'))": ["d", "rows"], "tojson(indent=0)": ["l"], "tojson|safe": ["d"],
    "trim": ["ws", "s", "nope", "'\\u00a0a\\u3000'", "i"], "trim('a')": ["'aabaa'"], "trim(chars='ab')": ["'abcba'"],
    "truncate(9)": ["'Hello there big world'"], "truncate(9, true)": ["'Hello there big world'"], "truncate(9, true, '..')": ["'Hello there big world'"],
    "truncate(9, true, '..', 0)": ["'Hello there big world'", "'Hello wor'"], "truncate": ["s"],
    "unique|list": ["[1, 2, 1]", "ls", "['a', 'A', 'b']"], "unique(true)|list": ["['a', 'A']"], "unique(attribute='k')|list": ["rows"],
    "urlencode": ["'a b&c/ü'", "{'a': 1, 'b': 'x y'}"], "wordcount": ["'a bc  d'", "empty"], "wordwrap(5)": ["'hello there world'"],
    "xmlattr": ["{'class': 'a', 'id': 'x<y'}"],
}
TESTS = ["boolean", "callable", "defined", "undefined", "none", "number", "integer", "float", "string", "mapping", "sequence", "iterable", "true",
         "false", "lower", "upper", "escaped"]
TEST_ARGS = [
    "i is divisibleby(7)", "i is divisibleby 2", "i is odd", "i is even", "i is eq 7", "i is equalto(7)", "i is ne 7", "i is lt 8", "i is lessthan 8",
    "i is le 7", "i is gt 6", "i is greaterthan 6", "i is ge 8", "s is sameas s", "n is sameas none", "t is sameas true", "1 is sameas true",
    "s is in ['abc']", "'b' is in s", "'upper' is filter", "'zz' is filter", "'odd' is test", "'zz' is test", "i is not odd", "range is callable",
    "d.items is callable", "'a b' is lower", "'A1' is upper", "3.0 is integer", "true is number", "true is integer", "d.a is defined", "d.z is not defined",
    "d['z'] is undefined", "nope.x is defined", "l[0] is defined", "l[9] is defined",
]
METHODS = {
    "s": ["capitalize()", "casefold()", "center(7)", "center(7, '*')", "count('b')", "encode('utf-8')|string", "endswith('c')", "endswith(('x', 'c'))", "expandtabs()",
          "find('c')", "find('z')", "find('b', 2)", "index('c')", "isalnum()", "isalpha()", "isascii()", "isdecimal()", "isdigit()", "isidentifier()",
          "islower()", "isnumeric()", "isprintable()", "isspace()", "istitle()", "isupper()", "join(['1', '2'])", "ljust(5)", "ljust(5, '.')", "lower()",
          "lstrip('a')", "partition('b')", "partition('z')", "removeprefix('a')", "removeprefix('z')", "removesuffix('c')", "replace('b', 'X')",
          "rfind('b')", "rindex('b')", "rjust(5)", "rjust(5, '.')", "rpartition('b')", "rpartition('z')", "rsplit('b')", "rstrip('c')", "split('b')", "splitlines()",
          "startswith('a')", "startswith(('x', 'a'))", "startswith('b', 1)", "strip('ac')", "swapcase()", "title()", "upper()", "zfill(6)",
          "__len__()|string if false else 'x'", "split('')|length if false else 1", "format()"],
    "'a,b,,c'": ["split(',')", "split(',', 1)", "split(',', maxsplit=2)", "rsplit(',', 1)", "rsplit(',')", "rsplit(sep=',', maxsplit=2)", "count(',')", "replace(',', ';', 2)",
                 "replace(',', ';', -1)", "find(',', 2)", "find(',', -3)", "rfind(',', 0, 2)", "index(',')"],
    "ws": ["split()", "rsplit()", "rsplit(none, 1)", "split(none, 1)", "strip()", "lstrip()", "rstrip()", "splitlines()", "isspace()", "expandtabs(4)", "split(' ')", "split('\\n')"],
    "lines": ["splitlines()", "splitlines(true)", "split('\\n')", "title()", "strip().split('\\n')[-1]"],
    "uni": ["upper()", "lower()", "title()", "swapcase()", "capitalize()", "find('∑')", "isalpha()", "islower()", "casefold()", "encode()|length"],
    "'12'": ["isdigit()", "zfill(5)", "isdecimal()", "isnumeric()"], "'-5'": ["zfill(4)"], "'ab12'": ["isalnum()", "isidentifier()"], "'²'": ["isdigit()", "isdecimal()", "isnumeric()"],
    "'a</x>b</x>c'": ["rsplit('</x>', 1)[-1]", "split('</x>')[-1].lstrip('\\n')", "split('</x>')|last", "rpartition('</x>')[2]"],
    "empty": ["split()", "split(',')", "splitlines()", "isalpha()", "isspace()", "islower()", "strip()", "title()", "startswith('')", "isascii()"],
    "'Hello World'": ["istitle()", "swapcase()", "title()", "find('o', 5)", "translate({72: 'J'})", "count('o', 5)", "startswith('World', 6)"],
    "'{} {}'": ["format(1, 'a')"], "'{0}{1}{0}'": ["format('a', 'b')"], "'{a:>5}|{b:<4}|{c:^5}|{d:04d}|{e:.2f}|{f!r}|{g:,}|{h:x}|{i:%}'": ["format(a=1, b='x', c='m', d=7, e=1.239, f='q', g=1234567, h=255, i=0.25)"],
    "'{{}}{}'": ["format(1)"], "'{0[k]} {1.a}'": ["format({'k': 1}, d)"],
    "l": ["index(1)", "index(2)", "count(1)", "count(9)", "copy()"], "ls": ["index('a')", "count('z')"],
    "d": ["keys()|list", "values()|list", "items()|list", "get('a')", "get('zz')", "get('zz', 'D')", "get('C', 'D')", "copy()", "keys()|join", "items()|first", "values()|last", "keys()|length"],
    "i": ["bit_length()", "conjugate()"], "x": ["is_integer()", "hex()"], "whole": ["is_integer()"],
}


def rows():
    for block in (OPERATORS, STATEMENTS):
        for line in block.strip("\n").split("\n"):
            yield line.replace("⏎", "\n").replace("␍", "\r")
    for name, values in FILTERS.items():
        for value in values:
            yield "{{ (" + value + ")|" + name + " }}"
    for test in TESTS:
        for value in [*ON, "html", "'AB'", "whole", "messages", "namespace(a=1)", "range(2)", "d.items()", "range"]:
            yield "{{ " + value + " is " + test + " }}"
    for test in TEST_ARGS:
        yield "{{ " + test + " }}"
    for value, methods in METHODS.items():
        for method in methods:
            yield "{{ (" + value + ")." + method + " }}"


def outcome(source):
    try:
        return compiled(source).render(**json.loads(json.dumps(VALUES)))
    except Refused as refusal:
        return f"refused: {refusal}"
    except Exception:  # noqa: BLE001 (any failure of the reference is its outcome)
        return None


def main(out):
    table = [[source, outcome(source)] for source in dict.fromkeys(rows())]
    # Whatever prints an address differs from run to run.
    table = [row for row in table if " at 0x" not in (row[1] or "")]
    document = {"reference": f"jinja2 {jinja2.__version__}", "values": VALUES}
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in table)
    head = json.dumps(document, ensure_ascii=False)[:-1]
    out.write_text(head + ', "rows": [\n' + lines + "\n]}\n")
    print(len(table), "rows,", sum(row[1] is None for row in table), "of them fail in the reference")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
