/** What one benchmark found. */
export interface BenchResult {
  name: string;
  /** The figure that the target speaks of. */
  ratio: number;
  /** The target in words, such as `at most 1.2`. */
  target: string;
  /** The measured figures behind the ratio. */
  detail: string;
}
