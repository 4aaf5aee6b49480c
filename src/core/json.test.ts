import { describe, expect, it } from "vitest";
import { JsonFields, parseJson } from "./json.ts";

const fields = (value: unknown) => new JsonFields(value, "the thing");

describe("JSON from outside", () => {
  it("is parsed, or named as what it is not", () => {
    expect(parseJson(Buffer.from('{"a":1}'), "x")).toEqual({ a: 1 });
    for (const bad of [Buffer.from("{"), Buffer.from([0xff]), Buffer.alloc(0)]) {
      expect(() => parseJson(bad, "the thing")).toThrow(
        expect.objectContaining({ code: "corrupt", message: expect.stringContaining("the thing is not valid JSON") }),
      );
    }
    for (const bad of [null, [], "x", 1]) expect(() => fields(bad)).toThrow("the thing is not a JSON object");
  });

  it("gives its fields by type; null is as good as absent", () => {
    const all = fields({ s: "x", b: true, n: 1.5, l: ["a"], any: [1], m: { a: "b" }, set: { "80/tcp": {}, "81/tcp": null }, o: { s: "y" }, nil: null });
    expect([all.text("s"), all.flag("b"), all.number("n"), all.texts("l"), all.list("any"), all.map("m")]).toEqual(["x", true, 1.5, ["a"], [1], { a: "b" }]);
    expect(all.set("set")).toEqual({ "80/tcp": {}, "81/tcp": {} });
    expect(all.object("o")?.text("s")).toBe("y");
    for (const key of ["nil", "absent", "toString", "__proto__"]) expect(all.text(key)).toBeUndefined();
  });

  it("says which field has another type", () => {
    const wrong = fields({ a: 1, l: ["x", 2], m: { x: 1 }, o: [] });
    expect(() => wrong.text("a")).toThrow(expect.objectContaining({ code: "corrupt", message: 'the thing is malformed: "a" is not a string' }));
    expect(() => wrong.flag("a")).toThrow("true or false");
    expect(() => wrong.number("l")).toThrow("a number");
    expect(() => wrong.texts("l")).toThrow("a list of strings");
    expect(() => wrong.map("m")).toThrow("an object of strings");
    expect(() => wrong.object("o")).toThrow("an object");
    expect(() =>
      fields({ o: { x: 1 } })
        .object("o")
        ?.text("x"),
    ).toThrow('o of the thing is malformed: "x"');
  });
});
