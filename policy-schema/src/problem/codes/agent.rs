//! The agent's own state, and its local API.

codes! {
    agent: Agent {
        /// The agent could not write its own state.
        ///
        /// Cause: a full or read-only disk, or, on Windows, a program that keeps the file open.
        ///
        /// Fix: make room in the folder that the message names. The agent works on and tries again every 10 seconds.
        AgentStateUnwritable = "agent.state-unwritable", Error;
        /// The agent could not read its own state.
        ///
        /// Cause: permissions, a failing disk, a file that is damaged, or one that a newer version of the agent wrote. What
        /// is damaged or newer is kept beside, under the name that the message shows.
        ///
        /// Fix: repair what the message names. The agent works on with what policy says now.
        AgentStateUnreadable = "agent.state-unreadable", Error;
        /// The agent's local API cannot be used. Policy is applied all the same.
        ///
        /// Cause: another program has taken its socket or pipe, or the folder of the socket cannot be made.
        ///
        /// Fix: end the program that the message names. The agent tries again every 10 seconds.
        AgentApiUnavailable = "agent.api-unavailable", Error;
        /// A local API refused a request.
        ///
        /// Cause: the caller may not do this, or the request was not understood.
        ///
        /// Fix: as the message says; what changes the machine needs root.
        ApiRefused = "api.refused", Error;
    }
}
