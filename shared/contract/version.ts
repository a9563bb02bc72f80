/** Version of the service; a test keeps it that of package.json. */
export const VERSION = "0.1.0";
