// A Verdaccio plugin: a request's user is the one that gatelet wrote on it.
module.exports = () => ({
  register_middlewares(app) {
    app.use((request, response, next) => {
      const name = request.headers["x-auth-subject"];
      if (name) {
        const user = { name, groups: ["$all", "$authenticated"], real_groups: [] };
        request.remote_user = user;
        response.locals.remote_user = user;
      }
      next();
    });
  },
});
