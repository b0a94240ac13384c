//! WebSocket frames on their way to the agent.
