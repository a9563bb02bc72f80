/**
 * One part of the stack behind the gateway. Requests arrive with the service's prefix taken off
 * the path (`/rest/v1/agents` is `/agents`), as Kong hands them on.
 */
export interface HttpService {
  fetch(request: Request): Promise<Response>;
  close(): Promise<void>;
}
