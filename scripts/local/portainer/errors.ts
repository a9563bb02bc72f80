/** An error of Portainer itself: answered as `{message, details}`. */
export class PortainerError extends Error {
  constructor(readonly status: number, message: string, readonly details: string = message) {
    super(message);
    this.name = "PortainerError";
  }
}

/** An error of a Docker engine, which Portainer's proxy passes on as the engine's `{message}`. */
export class DockerError extends Error {
  constructor(readonly status: number, message: string) {
    super(message);
    this.name = "DockerError";
  }
}

export const noSuchContainer = (ref: string): DockerError =>
  new DockerError(404, `No such container: ${ref}`);

export const noSuchImage = (ref: string): DockerError =>
  new DockerError(404, `No such image: ${ref}`);

/** What Docker says of an image that its registry does not give. */
export const pullDenied = (repository: string): DockerError =>
  new DockerError(
    404,
    `pull access denied for ${repository}, repository does not exist or may require 'docker login': ` +
      "denied: requested access to the resource is denied",
  );

/** An error of swarmkit as the engine passes it on: the gRPC code stands in the message. */
export const swarmError = (status: number, code: string, description: string): DockerError =>
  new DockerError(status, `rpc error: code = ${code} desc = ${description}`);
