import { describe, expect, test } from "vitest";
import { type Route, RouteTable } from "./router.ts";

const route = (method: string, pattern: string): Route => [method, pattern, () => ({ kind: "empty", status: 200 })];
const table = new RouteTable([
  route("GET", "/images/json"),
  route("GET", "/images/{name:.*}/json"),
  route("GET", "/containers/json"),
  route("GET", "/containers/{id}/json"),
  route("POST", "/containers/{id}/attach"),
  route("GET", "/containers/{id}/attach/ws"),
  route("GET", "/_ping"),
]);
const find = (method: string, path: string) => {
  const found = table.find(method, path);
  return found && [found.route.pattern, ...found.params];
};

describe("routes", () => {
  test("a parameter is one segment, or many where the pattern says so", () => {
    expect(find("GET", "/containers/web/json")).toEqual(["/containers/{id}/json", "web"]);
    expect(find("GET", "/containers/a%2Fb/json")).toEqual(["/containers/{id}/json", "a%2Fb"]);
    expect(find("GET", "/containers/a/b/json")).toBeUndefined();
    expect(find("GET", "/images/registry:5000/a/b/json")).toEqual(["/images/{name:.*}/json", "registry:5000/a/b"]);
    expect(find("GET", "/containers/web/attach/ws")).toEqual(["/containers/{id}/attach/ws", "web"]);
  });

  test("the earlier route wins", () => {
    expect(find("GET", "/images/json")).toEqual(["/images/json"]);
    expect(find("GET", "/images/json/json")).toEqual(["/images/{name:.*}/json", "json"]);
  });

  test("another method, an empty parameter, something before or behind are no match", () => {
    expect(find("POST", "/containers/web/json")).toBeUndefined();
    expect(find("GET", "/containers//json")).toBeUndefined();
    expect(find("GET", "/images//json")).toBeUndefined();
    for (const path of ["", "/", "_ping", "/_ping/", "//_ping", "/_ping?x", "/containers/web/json/", "x/containers/web/json"])
      expect(find("GET", path)).toBeUndefined();
  });
});
