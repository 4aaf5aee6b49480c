import { defineConfig } from "vitest/config";
import { integrationTimes } from "./test/patience.ts";

const config: ReturnType<typeof defineConfig> = defineConfig({
  test: {
    projects: [
      { test: { name: "unit", include: ["src/**/*.test.ts", "test/golden/**/*.test.ts"], testTimeout: 20_000 } },
      {
        test: {
          name: "integration",
          include: ["test/{suites,integration,compat,package,attacks}/**/*.test.ts"],
          ...integrationTimes,
          fileParallelism: false,
          pool: "forks",
        },
      },
    ],
  },
});
export default config;
