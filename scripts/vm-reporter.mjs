// vitest's reporter in a VM: a line of JSON for each test at $WHERRY_VM_RESULTS as soon as it has ended, so that a suite that is stopped has told what it knew.
import { appendFileSync } from "node:fs";

export default class VmReporter {
  #file = process.env.WHERRY_VM_RESULTS;

  onTestModuleEnd(module) {
    for (const { message } of module.errors()) this.#say({ state: "failed", name: module.relativeModuleId, why: message });
  }

  onTestSuiteResult(suite) {
    for (const { message } of suite.errors()) this.#say({ state: "failed", name: suite.fullName, why: message });
  }

  onTestCaseResult(test) {
    const { state, errors, note } = test.result();
    const why = errors?.[0]?.message ?? note;
    this.#say({ state, name: test.fullName, ...(why === undefined ? {} : { why }) });
  }

  onTestRunEnd(_modules, unhandled) {
    for (const { message } of unhandled) this.#say({ state: "failed", name: "(outside of a test)", why: message });
    this.#say({ state: "ended" });
  }

  #say(result) {
    appendFileSync(this.#file, `${JSON.stringify(result)}\n`);
  }
}
