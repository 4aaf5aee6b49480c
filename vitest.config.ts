import { defineConfig } from "vitest/config";

// An emulated machine is some twenty times slower.
const patience = process.env["WHERRY_IN_VM"] === undefined ? 1 : 5;

const config: ReturnType<typeof defineConfig> = defineConfig({
  test: {
    projects: [
      { test: { name: "unit", include: ["src/**/*.test.ts", "test/golden/**/*.test.ts"], testTimeout: 20_000 } },
      {
        test: {
          name: "integration",
          include: ["test/{suites,integration,compat,package,attacks}/**/*.test.ts"],
          testTimeout: 120_000 * patience,
          hookTimeout: 300_000 * patience,
          fileParallelism: false,
          pool: "forks",
        },
      },
    ],
  },
});
export default config;
