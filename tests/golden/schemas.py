"""Makes tests/golden/schemas.json: schemas as generators write them, with answers that they do and do not allow.

    python -m venv /tmp/v && /tmp/v/bin/pip install pydantic jsonschema && mkdir /tmp/z && cd /tmp/z && npm install zod@4
    /tmp/v/bin/python tests/golden/schemas.py /tmp/z/node_modules

Schemas of pydantic and zod are what these wrote (their versions are in the file); those of protobuf, typia and TypeBox
follow the shapes in their documentation. All answers are checked with `jsonschema`.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

import jsonschema
import pydantic
from pydantic import BaseModel, ConfigDict, Field

HERE = Path(__file__).parent


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(ge=0, le=9)


class Dog(BaseModel):
    kind: Literal["dog"]
    name: Optional[str] = None


class Node(BaseModel):
    value: int
    children: list["Node"] = []


class Basics(BaseModel):
    model_config = ConfigDict(extra="forbid", title="Basics of a thing")
    id: int = Field(gt=0, lt=2**63, description="Snowflake")
    name: Annotated[str, Field(min_length=1, max_length=20, pattern=r"^[\w .-]+$", examples=["Ann"])]
    colour: Colour = Colour.RED
    tags: Annotated[list[str], Field(max_length=3)] = []
    extra: dict[str, int] = {}


class Types(BaseModel):
    day: datetime.date
    at: datetime.datetime
    key: uuid.UUID
    price: decimal.Decimal = Field(max_digits=6, decimal_places=2)
    pair: tuple[int, str]
    ratio: float = Field(ge=0, le=1, multiple_of=0.25)
    anything: Any = None
    secret: pydantic.SecretStr = pydantic.SecretStr("")


class Zoo(BaseModel):
    pet: Annotated[Union[Cat, Dog], Field(discriminator="kind")]
    best: Cat | Dog | None = None


class Odd(BaseModel):
    space: Annotated[int, Field(alias="with space")]
    quote: Annotated[int, Field(alias='a"b')]
    slash: Annotated[Optional[Cat], Field(alias="a/b~c")] = None


PYDANTIC = [
    (Basics, [{"id": 9007199254740993, "name": "Ann", "colour": "blue", "tags": ["a"], "extra": {"x": 1}}, {"id": 1, "name": "B. C-d"}], [{"id": 0, "name": "Ann"}, {"id": 1, "name": ""}, {"id": 1, "name": "A", "colour": "green"}, {"id": 9223372036854775808, "name": "A"}, {"id": 1, "name": "A", "tags": ["1", "2", "3", "4"]}]),
    (Types, [{"day": "2024-02-29", "at": "2024-05-01T10:00:00Z", "key": "12345678-1234-1234-1234-123456789abc", "price": 12.5, "pair": [1, "x"], "ratio": 0.75, "anything": [{}]}, {"day": "1999-12-31", "at": "1999-12-31T23:59:59+02:00", "key": "12345678-1234-1234-1234-123456789abc", "price": "12.50", "pair": [-1, ""], "ratio": 0}], [{"day": "2024-02-29", "at": "2024-05-01T10:00:00Z", "key": "12345678-1234-1234-1234-123456789abc", "price": 12.5, "pair": [1], "ratio": 0.75}, {"day": "2024-02-29", "at": "2024-05-01T10:00:00Z", "key": "12345678-1234-1234-1234-123456789abc", "price": 12.5, "pair": [1, "x"], "ratio": 0.7}]),
    (Node, [{"value": 1, "children": [{"value": 2, "children": []}, {"value": 3}]}, {"value": 1}], [{"children": []}, {"value": 1, "children": [{}]}]),
    (Zoo, [{"pet": {"kind": "cat", "lives": 9}, "best": None}, {"pet": {"kind": "dog", "name": None}, "best": {"kind": "dog", "name": "Rex"}}], [{"pet": {"kind": "cow"}}, {"pet": {"kind": "cat", "lives": 10}}, {"pet": {"kind": "cat"}}]),
    (Odd, [{"with space": 1, 'a"b': 2, "a/b~c": {"kind": "cat", "lives": 0}}, {"with space": 1, 'a"b': 2}], [{"with space": 1}, {"with space": 1, 'a"b': "2"}]),
]

ZOD = [
    ("z.record(z.string(), z.number())", [{}, {"a": 1.5}], [{"a": "1"}, []]),
    ("z.record(z.enum(['a', 'b']), z.int())", [{"a": 1, "b": 2}], [{"a": 1}, {"a": 1, "b": 2, "c": 3}]),
    ("z.partialRecord(z.enum(['a', 'b']), z.boolean())", [{}, {"b": True}], [{"c": True}, {"a": 1}]),
    ("z.object({id: z.int(), n: z.int32().nullable(), u: z.uint32().optional(), f: z.float32()})", [{"id": 9007199254740991, "n": -2147483648, "u": 4294967295, "f": 1.25}, {"id": -5, "n": None, "f": 0}], [{"id": 9007199254740992, "n": None, "f": 0}, {"id": 1, "n": 2147483648, "f": 0}, {"id": 1, "n": None, "u": -1, "f": 0}]),
    ("z.strictObject({email: z.email(), at: z.iso.datetime(), day: z.iso.date(), id: z.uuid(), site: z.url()})", [{"email": "a.b@example.com", "at": "2024-05-01T10:00:00Z", "day": "2024-02-29", "id": "12345678-1234-4234-9234-123456789abc", "site": "https://example.com/a?b"}], [{"email": "a..b@example.com", "at": "2024-05-01T10:00:00Z", "day": "2024-02-29", "id": "12345678-1234-4234-9234-123456789abc", "site": "https://example.com"}, {"email": "a@b.co", "at": "2024-05-01T10:00:00Z", "day": "2023-02-29", "id": "12345678-1234-4234-9234-123456789abc", "site": "https://example.com"}]),
    ("z.object({ip: z.ipv4(), six: z.ipv6(), cidr: z.cidrv4(), b64: z.base64(), jwt: z.string().regex(/^[A-Za-z0-9-_]+$/), e: z.e164(), dur: z.iso.duration(), t: z.iso.time()})", [{"ip": "10.0.0.1", "six": "::1", "cidr": "10.0.0.0/8", "b64": "aGk=", "jwt": "a-b_", "e": "+4915112345678", "dur": "P1DT2H", "t": "10:00:00"}], [{"ip": "10.0.0.256", "six": "::1", "cidr": "10.0.0.0/8", "b64": "aGk=", "jwt": "a-b_", "e": "+4915112345678", "dur": "P1D", "t": "10:00:00"}, {"ip": "10.0.0.1", "six": "::1", "cidr": "10.0.0.0/8", "b64": "aGk", "jwt": "a-b_", "e": "+4915112345678", "dur": "P1D", "t": "10:00:00"}]),
    ("z.discriminatedUnion('t', [z.object({t: z.literal('a'), x: z.number().min(0).max(1)}), z.object({t: z.literal(['b', 'c']), y: z.array(z.string()).nonempty()})])", [{"t": "a", "x": 0.5}, {"t": "c", "y": ["z"]}], [{"t": "a", "x": 2}, {"t": "b", "y": []}, {"t": "d"}]),
    ("z.object({a: z.string()}).and(z.object({b: z.number()}))", [{"a": "x", "b": 1}], [{"a": "x"}, {"b": 1}]),
    ("z.tuple([z.string(), z.number()], z.boolean())", [["a", 1], ["a", 1, True, False]], [["a"], ["a", 1, 2]]),
    ("z.looseObject({a: z.literal([1, 'x', null, true])})", [{"a": None}, {"a": 1, "z": []}], [{"a": 2}, {}]),
    ("z.object({a: z.string().min(2).max(5).startsWith('x').endsWith('z').includes('y'), m: z.number().multipleOf(0.01), d: z.string().default('q')})", [{"a": "xyz", "m": 12.34, "d": "e"}], [{"a": "xz", "m": 1, "d": ""}, {"a": "xyz", "m": 0.001, "d": ""}]),
    ("(() => { const Tree = z.object({v: z.number(), get kids() { return z.array(Tree) }}); return Tree })()", [{"v": 1, "kids": [{"v": 2, "kids": []}]}], [{"v": 1, "kids": [{}]}]),
    ("z.object({s: z.stringbool().optional()}).meta({id: 'Some thing', title: 'T', examples: [{}], deprecated: true})", None, None),
    ("z.templateLiteral(['n-', z.number()])", None, None),
    ("z.never().optional().or(z.any())", [1, {"a": []}], []),
    ("z.array(z.union([z.null(), z.nan().or(z.literal(5))]))", None, None),
    ("z.map(z.string(), z.string()).or(z.string())", None, None),
]

WRITTEN = [
    ("protobuf: protoc-gen-jsonschema", {"$schema": "http://json-schema.org/draft-04/schema#", "$ref": "#/definitions/Order", "definitions": {"Order": {"properties": {"orderId": {"type": "integer", "minimum": -9223372036854775808, "maximum": 9223372036854775807}, "count": {"type": "integer", "maximum": 4294967295, "minimum": 0}, "state": {"enum": ["UNKNOWN", 0, "PAID", 1], "oneOf": [{"type": "string"}, {"type": "integer"}], "title": "State"}, "line_items": {"items": {"$ref": "#/definitions/shop.v1.Item"}, "additionalProperties": False, "type": "array"}, "labels": {"additionalProperties": {"type": "string"}, "type": "object"}}, "additionalProperties": True, "type": "object", "title": "Order"}, "shop.v1.Item": {"required": ["sku"], "properties": {"sku": {"type": "string", "minLength": 1}, "ratio": {"anyOf": [{"type": "number", "minimum": -3.4028234663852886e38, "maximum": 3.4028234663852886e38}, {"type": "string"}, {"enum": ["NaN", "Infinity", "-Infinity"], "type": "string"}]}}, "type": "object"}}},
     [{"orderId": -9223372036854775808, "count": 4294967295, "state": "PAID", "line_items": [{"sku": "a", "ratio": 0.5}], "labels": {"a": "b"}}, {"orderId": 9223372036854775807, "state": 1, "other": 1}], [{"orderId": 9223372036854775808}, {"count": -1}, {"state": 2}, {"line_items": [{}]}]),
    ("protobuf: protoschema, int64 as a float", {"type": "object", "properties": {"n": {"anyOf": [{"type": "integer", "minimum": -9223372036854775808, "exclusiveMaximum": 9223372036854776000}, {"type": "string", "pattern": "^-?[0-9]+$"}], "default": 0}, "bytes": {"pattern": "^[A-Za-z0-9+/]*={0,2}$", "type": "string"}}, "patternProperties": {"^(some_name)$": {"type": "integer", "maximum": 2147483647, "minimum": -2147483648}}, "additionalProperties": False},
     [{"n": 9223372036854775807, "bytes": "aGk="}, {"n": "-5", "some_name": 2147483647}], [{"n": 9223372036854776000}, {"n": "x"}, {"some_name": 2147483648}, {"other": 1}]),
    ("typia: application of LLM functions", {"type": "object", "properties": {"input": {"description": "Input", "anyOf": [{"$ref": "#/$defs/IShoppingSale.ICreate"}, {"$ref": "#/$defs/Record%3Cstring%2C%20number%3E"}]}}, "required": ["input"], "additionalProperties": False, "$defs": {"IShoppingSale.ICreate": {"type": "object", "properties": {"tags": {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}, "price": {"type": "number", "exclusiveMinimum": 0}, "opened_at": {"anyOf": [{"type": "null"}, {"type": "string", "format": "date-time", "contentMediaType": "text/plain"}]}}, "required": ["tags", "price", "opened_at"], "additionalProperties": False}, "Record<string, number>": {"type": "object", "properties": {}, "required": [], "additionalProperties": {"type": "number"}}}},
     [{"input": {"tags": ["a"], "price": 0.01, "opened_at": None}}, {"input": {"any": 5}}], [{"input": {"tags": [], "price": 1, "opened_at": None}}, {"input": {"tags": ["a"], "price": 0, "opened_at": None}}, {}]),
    ("TypeBox and ajv", {"$schema": "http://json-schema.org/draft-07/schema#", "$id": "T", "type": "object", "properties": {"a": {"$ref": "#inner"}, "kind": {"anyOf": [{"const": "x", "type": "string"}, {"const": "y", "type": "string"}]}, "u": {"type": "array", "items": [{"type": "integer"}, {"type": "string"}], "additionalItems": False, "minItems": 2, "maxItems": 2}}, "required": ["a", "kind"], "additionalProperties": False, "definitions": {"inner": {"$id": "#inner", "type": "object", "patternProperties": {"^(0|[1-9][0-9]*)$": {"type": "boolean"}}, "additionalProperties": False}}, "errorMessage": "no"},
     [{"a": {"0": True, "17": False}, "kind": "y", "u": [1, "a"]}, {"a": {}, "kind": "x"}], [{"a": {"01": True}, "kind": "x"}, {"a": {}, "kind": "z"}, {"a": {}, "kind": "x", "u": [1]}, {"a": {}, "kind": "x", "w": 1}]),
    ("database identifiers", {"type": "object", "properties": {"id": {"enum": [9007199254740993, 123456789012345678901234567890, "u-1"]}, "parent": {"const": 18446744073709551615}}, "required": ["id", "parent"], "additionalProperties": False},
     [{"id": 123456789012345678901234567890, "parent": 18446744073709551615}, {"id": 9007199254740993, "parent": 18446744073709551615}], [{"id": 9007199254740992, "parent": 18446744073709551615}, {"id": 123456789012345678901234567891, "parent": 18446744073709551615}, {"id": "u-1", "parent": 18446744073709551616}]),
]


def main() -> None:
    cases = []
    add = lambda name, schema, valid, invalid: cases.append({"name": name, "schema": json.dumps(schema), "valid": [json.dumps(v, ensure_ascii=False) for v in valid], "invalid": [json.dumps(v, ensure_ascii=False) for v in invalid]})
    for model, valid, invalid in PYDANTIC:
        add(f"pydantic {model.__name__}", model.model_json_schema(), valid, invalid)
    for name, schema, valid, invalid in WRITTEN:
        add(name, schema, valid, invalid)
    source = "import {z} from 'zod'; const all = [%s]; console.log(JSON.stringify(all.map(s => z.toJSONSchema(s, {unrepresentable: 'any'}))))" % ", ".join(s for s, _, _ in ZOD)
    modules = Path(sys.argv[1])
    written = subprocess.run(["node", "--input-type=module", "-e", source], cwd=modules.parent, check=True, capture_output=True, text=True).stdout
    for (name, valid, invalid), schema in zip(ZOD, json.loads(written), strict=True):
        add(f"zod {name}", schema, valid or [], invalid or [])
    for case in cases:
        schema = json.loads(case["schema"])
        check = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)(schema)
        for key, right in (("valid", True), ("invalid", False)):
            for text in case[key]:
                assert check.is_valid(json.loads(text)) == right, (case["name"], text)
    zod = json.loads((modules / "zod/package.json").read_text())["version"]
    head = f"made by tests/golden/schemas.py with pydantic {pydantic.VERSION} and zod {zod}"
    (HERE / "schemas.json").write_text(json.dumps({"head": head, "cases": cases}, ensure_ascii=False, indent=1) + "\n")


main()
